"""What the API server says about the pod that Knative would make of a revision.

Only for requests that are dry runs themselves: Knative then tries the pod, and passes on the
API server's refusal.
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
    """Return the API server's words about the pod, or ``None`` if it would be made.

    Args:
        spec: the revision's spec with its defaults.
        namespace: where the pod would be.
        service_accounts: those that exist there.
        suffix: the random end of the pod's generated name.
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
