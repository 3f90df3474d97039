"""Whether the API server accepts the pod that Knative would create for a revision.

Knative checks this only if the request itself is a dry run, and returns the refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qwenkit.admission.field_errors import joined
from qwenkit.admission.pod.validation import pod_spec_errors

_NAME = "dry-run-validation"


def dry_run_refusal(
    spec: Mapping[str, Any], *, namespace: str, service_accounts: Collection[str], suffix: str
) -> str | None:
    """Return the API server's refusal of the pod, or ``None`` if it accepts the pod.

    ``spec`` is the revision's spec with its defaults; ``service_accounts`` are those of the
    namespace, ``suffix`` is the random end of the pod's generated name.
    """
    account = spec.get("serviceAccountName") or "default"
    if account not in service_accounts:
        return (
            f'pods "{_NAME}" is forbidden: error looking up service account '
            f'{namespace}/{account}: serviceaccount "{account}" not found'
        )
    found = list(pod_spec_errors({**spec, "containers": [*map(_made, spec["containers"])]}))
    return f'Pod "{_NAME}{suffix}" is invalid: {joined(found)}' if found else None


def _made(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container without what Knative replaces: its port, and the queue-proxy's probe."""
    return {key: container[key] for key in container if key not in ("ports", "readinessProbe")}
