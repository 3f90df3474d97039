"""Which policies of a namespace refuse or complete an object that is written?

In the API server's order: limits, which also set what a pod leaves out, the pods' security, quotas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from qwenkit.admission.field_errors import joined
from qwenkit.admission.pod.validation import pod_spec_errors
from qwenkit.sandbox.kube import api_error
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.policies import limit_range, pod_security, quota

# find(kind, namespace) -> its objects, which nobody may change; in all namespaces with None.
Find = Callable[[str, str | None], Iterable[Object]]
_MOST_PODS = 250


def admit(kind: ResourceKind, obj: Object, old: Object | None, find: Find) -> None:
    """Complete ``obj`` in place, which is new or replaces ``old``.

    Raises:
        ApiError: 403, a policy forbids it; 422, what it sets does not fit.
    """
    space = obj["metadata"].get("namespace")
    resizable = kind.name in ("PersistentVolumeClaim", "Service")
    if space is None or (old is not None and not resizable):
        return
    ranges = list(find("LimitRange", space))
    completed = kind.name == "Pod" and limit_range.complete(obj, ranges)
    # A limit that is set here may be below what the container asks for.
    if completed and (errors := list(pod_spec_errors(obj["spec"]))):
        raise api_error.invalid(kind, obj["metadata"]["name"], errors)
    broken = list(limit_range.broken(kind, obj, ranges))
    why = joined(broken) if broken else ""
    if not why and kind.name == "Pod":
        why = pod_security.violated(obj, find("Namespace", None)) or _not_here(obj, find)
    if not why and (quotas := list(find("ResourceQuota", space))):
        why = quota.exceeded(kind, obj, old, quotas, find(kind.name, space))
    if why:
        raise api_error.forbidden(kind, obj["metadata"]["name"], why)


def _not_here(pod: Object, find: Find) -> str:
    runtime = pod["spec"].get("runtimeClassName")
    if runtime and all(one["metadata"]["name"] != runtime for one in find("RuntimeClass", None)):
        return f'pod rejected: RuntimeClass "{runtime}" not found'
    full = len(list(find("Pod", None))) >= _MOST_PODS
    used_up = f"exceeded quota: sandbox, requested: pods=1, limited: pods={_MOST_PODS}"
    return used_up if full else ""
