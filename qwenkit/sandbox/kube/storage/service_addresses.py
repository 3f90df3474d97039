"""The cluster addresses of Services: assigned once, kept until the Service is deleted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from qwenkit.sandbox.kube.objects import Object, at

_RANGE = ipaddress.ip_network("10.96.0.0/16")
_RESERVED = 10  # the first ones belong to the API server and the DNS


def assign(service: Object, others: Iterable[Mapping[str, object]]) -> None:
    """Assign a free address to a new Service, in place, unless it needs none."""
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return
    if not spec.get("clusterIP"):
        taken = {at(other, "spec", "clusterIP") for other in others}
        free = (str(_RANGE[number]) for number in range(_RESERVED, _RANGE.num_addresses))
        spec["clusterIP"] = next(address for address in free if address not in taken)
    spec.setdefault("clusterIPs", [spec["clusterIP"]])


def keep(new: Object, old: Object) -> None:
    """Keep the address in an update that does not name it, in place."""
    for field in ("clusterIP", "clusterIPs"):
        if not new["spec"].get(field) and old["spec"].get(field):
            new["spec"][field] = old["spec"][field]
