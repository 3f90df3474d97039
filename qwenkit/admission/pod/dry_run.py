"""Whether the API server accepts the pod that Knative would create for a revision.

Knative checks this only if the request itself is a dry run, and returns the refusal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qwenkit.admission.field_errors import joined
from qwenkit.admission.pod.validation import pod_spec_errors

_NAME = "dry-run-validation"
_ANY_PORT = 8080


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
    containers = [
        _made(container, serves=len(spec["containers"]) == 1 or bool(container.get("ports")))
        for container in spec["containers"]
    ]
    found = list(pod_spec_errors({**spec, "containers": containers}))
    return f'Pod "{_NAME}{suffix}" is invalid: {joined(found)}' if found else None


def _made(container: Mapping[str, Any], *, serves: bool) -> dict[str, Any]:
    """Return a container as Knative and the defaults of pods make it.

    The queue-proxy sends the readiness probes, but not those that run a command. Of the container
    that ``serves``, the liveness probe goes to its port. A request defaults to the limit.
    """
    made = {key: value for key, value in container.items() if key != "ports"}
    if "exec" not in made.get("readinessProbe", {}):
        made.pop("readinessProbe", None)
    if serves and "livenessProbe" in made:
        probe = dict(made["livenessProbe"])
        for kind in {"httpGet", "tcpSocket"} & probe.keys():
            probe[kind] = {**probe[kind], "port": _ANY_PORT}
        made["livenessProbe"] = probe
    resources = made.get("resources", {})
    requests = {**resources.get("limits", {}), **resources.get("requests", {})}
    return {**made, "resources": {**resources, "requests": requests}}
