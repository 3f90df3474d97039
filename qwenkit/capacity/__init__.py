"""Estimates: how fast a GPU serves, and what follows for replicas, latency and cost."""
