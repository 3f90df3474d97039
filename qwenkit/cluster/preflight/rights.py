"""What a role must be allowed to do for each step: the list that is asked, and granted.

A right without ``lost`` is needed; without one of the others, something is not seen or not done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from qwenkit.cluster import kinds
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import CHILD_KINDS, KNATIVE_NAMESPACE, PV, PVC, Kind, Obj
from qwenkit.cluster.ownership import ADMIN_MAKES
from qwenkit.cluster.preflight.check import Check, fail, ok, unknown, warn
from qwenkit.errors import NotFound
from qwenkit.settings import Settings

_MAKE = "get create patch"  # server-side apply creates and changes by ``patch``
STEPS = ("deploy", "scale", "explain", "load", "teardown", "cluster")
_GRANT = "an administrator grants it: qwenkit render --admin --user NAME | kubectl apply -f -"


@dataclass(frozen=True)
class Right:
    """Verbs on a kind: in the run's namespace, in ``namespace``, or with "" at cluster scope."""

    kind: Kind
    verbs: str
    lost: str = ""
    sub: str = ""
    namespace: str | None = None

    @property
    def group(self) -> str:
        """The API group, empty for the core."""
        return self.kind.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """The plural that rules name, with the subresource."""
        name = self.kind.kind.lower()
        return f"{name}{'es' if name.endswith('s') else 's'}" + (f"/{self.sub}" if self.sub else "")

    def __str__(self) -> str:
        scope = f" in namespace {self.namespace}" if self.namespace else " at cluster scope"
        name = f"{self.resource}.{self.group}".rstrip(".")
        return f"{', '.join(self.verbs.split())} {name}{'' if self.namespace is None else scope}"

    def refused(self, cluster: Cluster) -> Right | None:
        """Return this right with the verbs that the role does not have, None if it has them all."""
        where = cluster.namespace if self.namespace is None else self.namespace
        resource, _, sub = self.resource.partition("/")
        asked = {"group": self.group, "resource": resource, "subresource": sub, "namespace": where}
        no = [verb for verb in self.verbs.split() if not cluster.allows(asked | {"verb": verb})]
        return replace(self, verbs=" ".join(no)) if no else None


def rights(
    settings: Settings, *, claim: bool = True, volume: bool = True
) -> dict[str, list[Right]]:
    """Return the rights by step; ``claim`` and ``volume``: whether the run must make them."""
    oss, shared = settings.storage == "oss", settings.storage == "shared"
    claim, volume = claim and not shared, volume and not shared
    # The Secret is the bucket's, or the Job's for its hub.
    keys = [] if shared or (oss and settings.oss_auth == "rrsa") else [kinds.SECRET]
    made = [kinds.KSVC, *keys, *[PVC] * claim, *[kinds.JOB] * (not oss and not shared)]
    wide, knative = partial(Right, namespace=""), partial(Right, namespace=KNATIVE_NAMESPACE)
    job = (kinds.JOB, kinds.SECRET)
    named, ended = "only what the settings name is found", "it is not seen when all has ended"
    return {
        "deploy": [
            *(Right(kind, _MAKE) for kind in made),
            *[Right(PVC, "get")] * (not claim),
            *[wide(PV, _MAKE)] * volume,
            Right(kinds.POD, "list"),
            Right(kinds.NAMESPACE, "get", "whether the namespace is there, is not known"),
        ],
        "scale": [
            Right(kinds.KSVC, "get patch"),
            Right(kinds.REVISION, "get"),
            Right(kinds.REVISION, "delete", "a change in mode replace frees no GPU"),
            Right(kinds.CONFIGURATION, "get"),
            Right(kinds.RESOURCE_QUOTA, "get", "a workshop's limit of GPUs is not known"),
            Right(kinds.POD_AUTOSCALER, "list", "graphs show pods, not the number that is wanted"),
        ],
        "explain": [
            Right(kinds.POD, "get", "a server's last words are not seen", "log"),
            Right(kinds.EVENT, "list", "what the cluster says of pods and volumes is not seen"),
            Right(kinds.INGRESS, "get list", "why a route has no address is not seen"),
            Right(kinds.REPLICA_SET, "list", "why no pod is made is not seen"),
        ],
        "load": [
            Right(kinds.POD, "get", "a load shows no figures of vLLM", "proxy"),
            *(Right(kind, f"{_MAKE} delete", "no load --in-cluster") for kind in job),
        ],
        "teardown": [
            *(Right(kind, "get delete") for kind in made),
            *[wide(PV, "get list delete", "the PV stays")] * volume,
            *(Right(kind, "list", named) for kind in dict.fromkeys((*made, kinds.JOB))),
            *(Right(kind, "list", ended) for kind in CHILD_KINDS),
            Right(kinds.POD, "delete", "--now has no effect"),
        ],
        "cluster": [
            wide(kinds.NODE, "get list", "GPUs, CPU and memory are not known"),
            wide(kinds.POD, "list", "what others hold is not known"),
            wide(PV, "get list", "whose a volume is, is not known"),
            wide(kinds.CSI_DRIVER, "get list", "the volume's driver is not checked"),
            wide(kinds.CSI_NODE, "list", "the volume's driver is not checked"),
            wide(kinds.STORAGE_CLASS, "get list", "a claim's class is not checked"),
            knative(kinds.CONFIG_MAP, "get", "Knative's settings are not known"),
            knative(kinds.CORE_SERVICE, "get", "a load shows no autoscaler's figures", "proxy"),
        ],
    }


def rights_checks(
    cluster: Cluster, settings: Settings, *, claim: bool, volume: bool
) -> list[Check]:
    """Ask for each right; one that is needed and refused fails, of the others say what is lost."""
    everything = dict.fromkeys(("verb", "group", "resource"), "*")
    try:
        full = cluster.allows(everything)  # an administrator's: one question in place of all
    except NotFound as error:
        return [unknown(f"rights-{step}", f"it cannot be asked: {error.why}") for step in STEPS]
    return [
        _check(step, [] if full else [no for one in asked if (no := one.refused(cluster))])
        for step, asked in rights(settings, claim=claim, volume=volume).items()
    ]


def _check(step: str, refused: list[Right]) -> Check:
    name = f"rights-{step}"
    needed = [right for right in refused if not right.lost]
    if needed:
        why = f"this role may not {'; '.join(map(str, needed))}"
        fix = ADMIN_MAKES if all(right.kind == PV for right in needed) else _GRANT
        return fail(name, "not enough", why, fix)
    if not refused:
        return ok(name, "all that it needs is allowed")
    losses = {lost: [r for r in refused if r.lost == lost] for lost in (r.lost for r in refused)}
    why = "; ".join(f"{lost}: needs {', '.join(map(str, of))}" for lost, of in losses.items())
    return warn(name, "may do what is needed", why, _GRANT if step != "cluster" else "")


def role(settings: Settings, user: str) -> list[Obj]:
    """Return the Role that every step needs in the namespace, and with ``user`` its binding."""
    meta = {"name": "qwenkit", "namespace": settings.namespace}
    verbs: dict[tuple[str, str], dict[str, None]] = {}
    for right in (one for step in rights(settings).values() for one in step):
        if right.namespace is None:
            verbs.setdefault((right.group, right.resource), {}).update(
                dict.fromkeys(right.verbs.split())
            )
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(found)}
        for (group, resource), found in verbs.items()
    ]
    api = "rbac.authorization.k8s.io"
    head: Obj = {"apiVersion": f"{api}/v1", "metadata": meta}
    made: list[Obj] = [head | {"kind": "Role", "rules": rules}]
    if user:
        subject: dict[str, Any] = {"kind": "User", "apiGroup": api, "name": user}
        if user.startswith("system:serviceaccount:"):
            space, _, name = user.removeprefix("system:serviceaccount:").partition(":")
            subject = {"kind": "ServiceAccount", "name": name, "namespace": space}
        reference = {"apiGroup": api, "kind": "Role", "name": "qwenkit"}
        head["metadata"] = meta | {"name": f"qwenkit:{user}".replace("/", "-")}
        made.append(head | {"kind": "RoleBinding", "roleRef": reference, "subjects": [subject]})
    return made
