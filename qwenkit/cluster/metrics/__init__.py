"""Metrics of what runs in the cluster, without a Prometheus."""
