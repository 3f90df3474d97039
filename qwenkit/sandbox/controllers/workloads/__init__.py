"""Kubernetes' own loops: Deployments, ReplicaSets, Jobs, scheduling and volumes."""
