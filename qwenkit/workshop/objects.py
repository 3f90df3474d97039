"""The objects of a workshop and of each participant, as plain documents; nothing is sent here."""

from __future__ import annotations

import math
import secrets
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qwenkit.admission.schema.quantities import parse
from qwenkit.cluster.gpu_slot import GPU_SLOT, TOLD
from qwenkit.cluster.kinds import Obj
from qwenkit.cluster.preflight.rights import role
from qwenkit.credentials import Credentials
from qwenkit.in_cluster.shared import LIST
from qwenkit.manifests.render import secret
from qwenkit.manifests.storage import storage
from qwenkit.manifests.template import Scalar, plain
from qwenkit.parameters.described import GROUPS
from qwenkit.settings import ADMIN, API_KEY, EXPIRES_AT, SHARED_WEIGHTS, Settings
from qwenkit.workshop.cleaning import cleaner
from qwenkit.workshop.description import Description
from qwenkit.workshop.documents import document, granted, rule
from qwenkit.workshop.names import (
    ACCOUNT,
    API_KEY_SECRET,
    DISPLAY_NAME,
    PARTICIPANT_LABEL,
    PROGRESS,
    QUOTA,
    Participant,
)
from qwenkit.workshop.pulling import gpu_nodes, pull_job
from qwenkit.workshop.slots.deployment import keeper_objects, may_act

# Made once: what they hold later is written by the keeper, by the participant, or is random.
_MADE_ONCE = ("Job", "ResourceQuota", "PersistentVolume", "PersistentVolumeClaim")
_SERVERS = 5  # of one participant at a time: the course's three, and what replaces them
_GATEWAYS = ("knative-serving", "kourier-system", "istio-system", "contour-external")
# Where a node's metadata is, with the credentials of its role: Alibaba Cloud's, and all others'.
_METADATA = ("100.100.100.200/32", "169.254.169.254/32")
_CONTAINER: Mapping[str, Mapping[str, str]] = {  # where a container says nothing itself
    "default": {"cpu": "1", "memory": "1Gi"},
    "defaultRequest": {"cpu": "25m", "memory": "64Mi"},
}


@dataclass(frozen=True)
class Shared:
    """What every participant gets alike.

    Args:
        files: JSON of the weights' manifest, for ``storage=shared``.
        outside: the gateway is not one of ``_GATEWAYS``, such as a load balancer of the cloud.
        login: the Secret with the registry's login, which their pods use.
    """

    files: str = "{}"
    outside: bool = False
    login: Obj | None = None


def own_objects(
    workshop: Description,
    settings: Settings,
    keys: Credentials | None,
    nodes: Iterable[Obj],
    *,
    login: Obj | None = None,
    clean_up: bool = False,
) -> list[Obj]:
    """Return the objects of the workshop's own namespace, which no participant may read.

    ``nodes``: those that get the server's image at once, with the registry's ``login`` if it needs
    one; ``clean_up``: a CronJob removes all.
    """
    space = workshop.name.namespace
    made: list[Obj] = [document("v1", "Namespace", space)]
    if keys is not None:
        made.append(secret(_of_instructor(settings, workshop), keys))
    pulls = [*_login(login, space)]
    pulls += [pull_job(node, settings, space) for node in gpu_nodes(nodes, settings)]
    more = cleaner(settings, workshop.name) if clean_up else []
    more += keeper_objects(workshop.name, settings) if settings.transfer_image else []
    return [_marked(one, workshop) for one in [*made, workshop.to_object(), *pulls, *more]]


def participant_objects(
    workshop: Description, settings: Settings, who: Participant, *, shared: Shared
) -> list[Obj]:
    """Return the objects of a participant's namespace, each after those that it needs.

    Args:
        workshop: the workshop.
        settings: the instructor's: where the weights lie, and the size of a server.
        who: the participant.
        shared: what all of them get.
    """
    space, theirs = who.namespace, settings.model_copy(update={"storage": "shared"})
    named = {DISPLAY_NAME: who.display_name} if who.display_name else {}
    home = document("v1", "Namespace", space)
    secure = {"pod-security.kubernetes.io/enforce": "baseline"}
    home["metadata"] |= {"labels": secure, "annotations": named}
    key = b64encode(secrets.token_urlsafe(32).encode()).decode()
    volume, claim = _volume(workshop, settings, who)
    size = claim["spec"]["resources"]["requests"]["storage"]
    limits = {"limits": [{"type": "Container", **_CONTAINER, "max": _most(settings)}]}
    made: list[Obj] = [
        home,
        document("v1", "ServiceAccount", ACCOUNT, space, automountServiceAccountToken=False),
        *granted(ACCOUNT, rules(theirs), ACCOUNT, space, wide=False),
        *([may_act(workshop.name, space)] if settings.transfer_image else []),
        document("v1", "ResourceQuota", QUOTA, space, spec={"hard": hard(settings, size)}),
        document("v1", "LimitRange", QUOTA, space, spec=limits),
        document("networking.k8s.io/v1", "NetworkPolicy", QUOTA, space, spec=_traffic(shared)),
        document("v1", "Secret", API_KEY_SECRET, space, data={API_KEY: key}),
        document("v1", "ConfigMap", TOLD, space, data={}),
        document("v1", "ConfigMap", PROGRESS, space, data={}),
        document("v1", "ConfigMap", SHARED_WEIGHTS, space, data={LIST: shared.files}),
        volume,
        claim,
        *_login(shared.login, space),
    ]
    return [_marked(one, workshop, {PARTICIPANT_LABEL: who.id}) for one in made]


def _login(login: Obj | None, namespace: str) -> list[Obj]:
    """Return a copy of the registry's login for a namespace, if there is one."""
    where = {"namespace": namespace}
    return [login | {"metadata": where | {"name": login["metadata"]["name"]}}] if login else []


def is_made_once(doc: Obj) -> bool:
    """Return whether an object that is there keeps its content: written by others, or random."""
    kept = (API_KEY_SECRET, TOLD, PROGRESS)
    written = doc["kind"] in ("ConfigMap", "Secret") and doc["metadata"]["name"] in kept
    described = "workshop.json" in doc.get("data", {})
    return (written and not described) or doc["kind"] in _MADE_ONCE


def shared_parameters(settings: Settings) -> dict[str, Any]:
    """Return the parameters of all participants: the instructor's that a server depends on."""
    names = {name for group in ("model", "server", "GPU", "scaling") for name in GROUPS[group]}
    names |= {"prefix", "mount_path", "load_tokens", "load_prompt_tokens", "time_scale"}
    found = {name: getattr(settings, name) for name in settings.model_fields_set & names}
    return found | {"storage": "shared", "api_key_secret": API_KEY_SECRET}


def rules(theirs: Settings) -> list[Obj]:
    """Return what a participant may do in their namespace: what the course's steps need, no more.

    Of Secrets and ConfigMaps they may read those with a name; they make no Job and no Secret.
    """
    found: list[Obj] = []
    for one in role(theirs, "")[0]["rules"]:
        if one["resources"] != ["secrets"]:
            only = {"verbs": ["list"]} if one["resources"] == ["jobs"] else {}
            found.append(one | only)
    slot = rule("leases", "get patch update delete", GPU_SLOT, group="coordination.k8s.io")
    return [
        *found,
        rule("secrets", "get", API_KEY_SECRET),
        rule("configmaps", "get", TOLD, PROGRESS, SHARED_WEIGHTS),
        rule("configmaps", "patch update", PROGRESS),
        rule("persistentvolumeclaims services", "list"),  # what some exercises are judged by
        rule("leases", "create", group="coordination.k8s.io"),
        slot,
    ]


def hard(settings: Settings, size: str) -> dict[str, str]:
    """Return the limits of a participant's namespace; no GPU until a slot is granted."""
    cpu, memory = parse(settings.cpu_request), parse(settings.memory_request)
    return {
        f"requests.{settings.gpu_resource}": "0",
        "requests.cpu": str(math.ceil(_SERVERS * cpu + 1)),
        "requests.memory": str(math.ceil(_SERVERS * memory + 2**31)),
        "pods": "20",
        "persistentvolumeclaims": "1",
        "requests.storage": size,
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        "count/services.serving.knative.dev": "5",
        "count/revisions.serving.knative.dev": "100",
        "count/configmaps": "20",
        "count/secrets": "10",
        "count/leases.coordination.k8s.io": "5",
        "count/jobs.batch": "0",
    }


def _most(settings: Settings) -> dict[str, str]:
    """Return the largest container that is allowed: a server's, but no less than the default."""
    wanted = {"cpu": settings.cpu_limit, "memory": settings.memory_limit}
    least = _CONTAINER["default"]
    return {name: max(wanted[name], least[name], key=parse) for name in least}


def _traffic(shared: Shared) -> Obj:
    """Return who may send to a participant's pods: the gateway, Knative, and their own pods.

    A cloud's load balancer (ALB) sends from addresses outside of the cluster. Participants choose
    their pods' images: these reach all but the node's metadata, which would give them its role.
    """
    spaces = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(_GATEWAYS)}
    senders = [{"namespaceSelector": {"matchExpressions": [spaces]}}, {"podSelector": {}}]
    senders += [{"ipBlock": {"cidr": "0.0.0.0/0"}}] * shared.outside
    world = {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_METADATA)}}
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": senders}],
        "egress": [{"to": [world, {"namespaceSelector": {}}]}],
    }


def _volume(workshop: Description, settings: Settings, who: Participant) -> list[Obj]:
    """Return a PV of the weights for this participant alone, and its claim; both read-only."""
    place = {"namespace": who.namespace, "volume": who.namespace}
    own: dict[str, Scalar] = {"managed_by": ADMIN, "run": workshop.name.run, "expires_at": None}
    made = [plain(one) for one in storage(settings.model_copy(update=place), own)]
    volume, claim = made[-2:]
    if reference := volume["spec"]["csi"].get("nodePublishSecretRef"):
        keeper = _of_instructor(settings, workshop)
        reference |= {"name": keeper.secret, "namespace": keeper.namespace}
    return [volume, claim]


def _of_instructor(settings: Settings, workshop: Description) -> Settings:
    own = {"namespace": workshop.name.namespace, "run": workshop.name.run, "volume": "weights"}
    return settings.model_copy(update=own)


def _marked(obj: Obj, workshop: Description, more: Mapping[str, str] | None = None) -> Obj:
    """Add the workshop's labels and its end; the manager of an administrator's object stays."""
    meta = obj["metadata"]
    kept = {key: value for key, value in meta.get("labels", {}).items() if value}
    labels = workshop.name.labels | dict(more or {}) | kept
    notes = dict(meta.get("annotations") or {}) | {EXPIRES_AT: workshop.expires_at}
    return obj | {"metadata": meta | {"labels": labels, "annotations": notes}}
