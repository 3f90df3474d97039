"""What a workshop is: its participants, slots and end, as the cluster keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import CONFIG_MAP, Obj, moment
from qwenkit.errors import InvalidValue, NotFound
from qwenkit.settings import Settings
from qwenkit.workshop.names import Participant, WorkshopName

DESCRIPTION = "workshop"  # the ConfigMap in the workshop's own namespace
_KEY = "workshop.json"


@dataclass(frozen=True)
class Description:
    """A workshop as it was created.

    Args:
        name: the workshop.
        participants: in order of their numbers.
        gpu_slots: the GPUs that all of them share.
        expires_at: when it may be removed, RFC 3339.
        settings: the parameters that every participant gets.
        gateway: base URL of the gateway, as participants reach it.
    """

    name: WorkshopName
    participants: tuple[Participant, ...]
    gpu_slots: int
    expires_at: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    gateway: str = ""

    def hours_left(self) -> float:
        """Return the hours until it ends, 0 once it has."""
        left = moment(self.expires_at) - datetime.now(UTC)
        return max(left.total_seconds() / 3600, 0.0)

    def participant(self, wanted: str) -> Participant:
        """Return a participant by id, such as ``p07``, or by the name that was given.

        Raises:
            NotFound: there is none, or several have that name.
        """
        found = [one for one in self.participants if wanted in (one.id, one.display_name)]
        if len(found) == 1:
            return found[0]
        why = "several have this name" if found else "neither an id nor a name is like it"
        fix = f"name an id: {', '.join(one.id for one in found or self.participants)}"
        raise NotFound(f"there is no participant {wanted!r}", why, fix)

    def parameters(self, who: Participant) -> dict[str, Any]:
        """Return the parameters of a participant: the content of their ``params.yaml``."""
        own = {"context": who.namespace, "namespace": who.namespace, "run": who.id}
        own |= {"workshop": self.name.name, "volume": who.namespace, "gateway": self.gateway}
        return dict(self.settings) | own

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        people = {one.id: one.display_name for one in self.participants}
        return vars(self) | {"name": self.name.name, "participants": people}

    def to_object(self) -> Obj:
        """Return the ConfigMap that keeps it."""
        text = json.dumps(self.to_dict(), ensure_ascii=False)
        meta = {"name": DESCRIPTION, "namespace": self.name.namespace}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {_KEY: text}}

    @classmethod
    def of(cls, name: WorkshopName, config: Mapping[str, Any]) -> Self:
        """Read the ConfigMap.

        Raises:
            InvalidValue: qwenkit did not write it so.
        """
        try:
            found = json.loads(config["data"][_KEY])
            people = tuple(Participant(name.name, *one) for one in found["participants"].items())
            moment(found["expires_at"])
            kept = (int(found["gpu_slots"]), found["expires_at"], dict(found["settings"]))
            return cls(name, people, *kept, str(found["gateway"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            place = f"configmap {DESCRIPTION} in {name.namespace}"
            fix = f"qwenkit workshop delete --name {name.name}, then create it again"
            raise InvalidValue(place, str(error), "must be as qwenkit wrote it", fix) from None


def connect(settings: Settings, name: WorkshopName) -> Cluster:
    """Connect to the workshop's own namespace, with the instructor's context."""
    own = {"namespace": name.namespace, "run": name.run}
    return Cluster.connect(settings.model_copy(update=own))


def find(cluster: Cluster, name: WorkshopName) -> Description | None:
    """Return the workshop that the cluster keeps, None if there is none."""
    config = cluster.find(CONFIG_MAP, DESCRIPTION, namespace=name.namespace)
    return Description.of(name, config) if config else None


def read(cluster: Cluster, name: WorkshopName) -> Description:
    """Return the workshop that the cluster keeps.

    Raises:
        NotFound: there is none of this name.
    """
    if found := find(cluster, name):
        return found
    fix = f"qwenkit workshop create --name {name.name}, or name another one with --name"
    why = f"the namespace {name.namespace} holds no description of it"
    raise NotFound(f"there is no workshop {name.name!r}", why, fix)
