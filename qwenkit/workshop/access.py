"""How a participant reaches their namespace: a kubeconfig whose token ends, and parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from qwenkit.cluster.api.connect import cluster_entry
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import SERVICE_ACCOUNT, moment
from qwenkit.errors.scrubbing import remember
from qwenkit.workshop.description import Description
from qwenkit.workshop.names import ACCOUNT, Participant

_LEAST_S = 600  # a shorter token is refused


@dataclass(frozen=True)
class Access:
    """What a participant gets: two files, and until when the token works (RFC 3339)."""

    who: Participant
    kubeconfig: str
    params: str
    until: str


def access(cluster: Cluster, workshop: Description, who: Participant) -> Access:
    """Return a participant's files, with a new token that ends with the workshop.

    Raises:
        NotFound: the participant's account does not exist (yet).
    """
    left_s = (moment(workshop.expires_at) - datetime.now(UTC)).total_seconds()
    spec = {"expirationSeconds": max(_LEAST_S, int(left_s))}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = cluster.at(who.namespace).post(SERVICE_ACCOUNT, ACCOUNT, "token", body)
    token, until = answer["status"]["token"], answer["status"]["expirationTimestamp"]
    remember(token)
    name = who.namespace
    where = {"cluster": name, "user": name, "namespace": name}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster_entry(cluster.context)}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": where}],
    }
    # JSON is YAML too, and every reader of kubeconfigs takes it.
    return Access(who, json.dumps(config, indent=1), _yaml(workshop.parameters(who)), until)


def _yaml(values: dict[str, Any]) -> str:
    stream = StringIO()
    YAML().dump(values, stream)
    return stream.getvalue()
