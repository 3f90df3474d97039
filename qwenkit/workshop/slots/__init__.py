"""GPU slots: fewer GPUs than participants, shared fairly.

A participant's wish is a Lease, the truth is one ConfigMap, and a slot is a ResourceQuota, so that
the cluster itself enforces it. Times are Unix seconds by the API server's clock.
"""
