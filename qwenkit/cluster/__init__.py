"""The cluster: apply, wait, find the gateway, explain a failure, tear down.

A ``Cluster`` owns context, namespace and run; no function takes a second copy of them. Functions
take the cluster first, then the one name that they need (a Service, a PVC), or ``settings`` where
they need several values. Deadlines are keywords.
"""
