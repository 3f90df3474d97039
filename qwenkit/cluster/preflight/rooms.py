"""Which nodes can run the Service's pods, and what do other pods leave free on them?"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from qwenkit.admission.schema import quantities
from qwenkit.cluster.kinds import Obj, is_true, labels_of, name_of
from qwenkit.cluster.pods import node_of

_MOST = 110  # pods of a node


@dataclass(frozen=True)
class Rooms:
    """All nodes, the spec of the Service's pods, and the pods of others.

    ``hidden`` says why what other pods hold is not known.
    """

    nodes: tuple[Obj, ...]
    spec: Obj
    pods: tuple[Obj, ...]
    hidden: str = ""

    def obstacle(self, node: Obj) -> str:
        """Return why a node takes no pod of the Service, empty if it does."""
        spec = node.get("spec") or {}
        if not is_true(node, "Ready"):
            return "not ready"
        if spec.get("unschedulable"):
            return "cordoned"
        if not (self.spec.get("nodeSelector") or {}).items() <= labels_of(node).items():
            return "not in node_selector"
        taints = [one for one in spec.get("taints") or [] if one["effect"] != "PreferNoSchedule"]
        closed = next((one["key"] for one in taints if not self._tolerates(one)), "")
        return f"taint {closed} is not in tolerations" if closed else ""

    def _tolerates(self, taint: Obj) -> bool:
        return any(
            one.get("effect") in (None, "", taint["effect"])
            and one.get("key") in (None, "", taint["key"])
            and (one.get("operator") == "Exists" or one.get("value") == taint.get("value"))
            for one in self.spec.get("tolerations") or []
        )

    def free(self, node: Obj, resource: str) -> Fraction:
        """Return what other pods leave free; much CPU and memory if the node does not say."""
        unsaid = "1Ei" if resource in ("cpu", "memory") else "0"
        whole = (node.get("status", {}).get("allocatable") or {}).get(resource, unsaid)
        here = [pod for pod in self.pods if node_of(pod) == name_of(node)]
        return max(
            Fraction(), quantities.parse(whole) - sum(_asks(pod["spec"], resource) for pod in here)
        )

    def places(self, *resources: str) -> int:
        """Return how many of the Service's pods fit at the same time, by these resources."""
        asked = {name: amount for name in resources if (amount := _asks(self.spec, name))}
        return sum(
            min((int(self.free(node, n) // amount) for n, amount in asked.items()), default=_MOST)
            for node in self.nodes
            if not self.obstacle(node)
        )


def _asks(spec: Obj, resource: str) -> Fraction:
    found = [c.get("resources") or {} for c in spec.get("containers") or []]
    amounts = [(one.get("limits") or {}) | (one.get("requests") or {}) for one in found]
    return sum((quantities.parse(one[resource]) for one in amounts if resource in one), Fraction())
