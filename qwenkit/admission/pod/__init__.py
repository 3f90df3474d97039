"""What is refused in a pod.

By Knative: ``spec``, ``container``, ``probes``, ``security``, ``volumes``. By the API server:
``validation``, ``resources``, and for Knative's pods ``dry_run``.
"""
