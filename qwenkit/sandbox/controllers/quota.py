"""How much of each ResourceQuota is used? Its status says so."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from qwenkit.sandbox.controllers.loop import Context, Controller
from qwenkit.sandbox.controllers.object_fields import Key, key_of
from qwenkit.sandbox.kube.objects import at
from qwenkit.sandbox.kube.policies.quota import printed, used_of
from qwenkit.sandbox.kube.storage.history import WatchEvent

# What it takes can change; of a pod, because it ends.
_CHANGING = ("PersistentVolumeClaim", "Pod", "ResourceQuota", "Service")


class QuotaController(Controller):
    """Keeps the status of quotas; the API server enforces them by itself."""

    name = "resource-quota"
    kind = "ResourceQuota"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._counted = [kind for kind in self.store.kinds if kind.namespaced]
        self.watches = frozenset(kind.name for kind in self._counted)

    def keys(self, change: WatchEvent) -> Iterable[Key]:
        """Return the quotas of a namespace where something came, went or has ended."""
        if change.type == "MODIFIED" and change.kind not in _CHANGING:
            return []
        space = change.object["metadata"]["namespace"]
        return [key_of(quota) for quota in self.store.list(self.kind, space)]

    def reconcile(self, namespace: str, name: str) -> None:
        """Count what is used."""
        quota = self.store.find(self.kind, namespace, name)
        if quota is None:
            return
        hard = at(quota, "spec", "hard") or {}
        parts = [used_of(one, self.store.list(one, namespace), hard) for one in self._counted]
        used = {one: printed(one, sum((part[one] for part in parts), Fraction())) for one in hard}
        self.write_status(quota, {"hard": hard, "used": used})
