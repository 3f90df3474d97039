"""Fault injection: faults of OSS, hub, API, node and weights, on demand."""
