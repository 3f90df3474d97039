"""Faults on demand: what can go wrong in the sandbox, and who makes it go wrong."""
