"""Remove a workshop with all that its participants made; safe to stop and to run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import (
    CLUSTER_ROLE,
    CLUSTER_ROLE_BINDING,
    CONFIG_MAP,
    DEPLOYMENT,
    JOB,
    NAMESPACE,
    PV,
    PVC,
    SECRET,
    SERVICE_ACCOUNT,
    Kind,
    Obj,
    is_terminating,
    labels_of,
    name_of,
)
from qwenkit.cluster.ownership import has_expired, is_ours
from qwenkit.cluster.removal import TeardownStep
from qwenkit.cluster.teardown import Ended, Leaks, ended, left_of
from qwenkit.cluster.wait import OnChange, wait
from qwenkit.errors import Forbidden, QwenkitError
from qwenkit.settings import MANAGED_BY, Settings
from qwenkit.workshop import description
from qwenkit.workshop.create import concurrently
from qwenkit.workshop.documents import GROUP
from qwenkit.workshop.names import WORKSHOP_LABEL, WorkshopName

_RIGHTS = (CLUSTER_ROLE_BINDING, CLUSTER_ROLE)
_RBAC = f"{GROUP}/v1"
# The kinds whose objects carry a workshop's labels.
WITH_LABELS = (
    *(NAMESPACE, PV, *_RIGHTS, SECRET, CONFIG_MAP, PVC, DEPLOYMENT, JOB, SERVICE_ACCOUNT),
    *(Kind(_RBAC, "Role"), Kind(_RBAC, "RoleBinding"), Kind("v1", "ResourceQuota")),
    *(Kind("v1", "LimitRange"), Kind("networking.k8s.io/v1", "NetworkPolicy")),
    *(Kind("batch/v1", "CronJob"), Kind("coordination.k8s.io/v1", "Lease")),
)


def delete(
    settings: Settings,
    name: WorkshopName,
    *,
    on_step: Callable[[TeardownStep], None] | None = None,
    on_change: OnChange | None = None,
) -> Ended:
    """Remove the namespaces and all that the workshop has beside them; then look what is left.

    The weights in the bucket stay. An error or an interrupt is in the answer.

    Raises:
        QwenkitError: the cluster cannot be connected to; nothing was done.
    """
    with closing(description.connect(settings, name)) as cluster:
        limit_s = settings.seconds("teardown")

        def remove(keep: Callable[[TeardownStep], None]) -> QwenkitError | None:
            spaces = _found(cluster, name, NAMESPACE)
            spaces = [one for one in spaces if name_of(one) != name.namespace]
            _remove_namespaces(cluster, spaces, limit_s, keep, on_change)
            _remove_objects(cluster, name, PV, keep)
            wait(  # Kubernetes takes its finalizer off each of them
                lambda: [one for one in list_all(cluster, name, PV) if is_terminating(one)],
                what="volumes gone",
                ready=lambda left: not left,
                describe=lambda left: f"{len(left)} volumes are left",
                timeout_s=limit_s,
                every_s=0.5,
                on_change=on_change,
            )
            _remove_namespaces(cluster, _found(cluster, name, NAMESPACE), limit_s, keep, on_change)
            # The rights come last: a CronJob of the workshop removes it by them. What is left of
            # them after it, the garbage collector removes with the namespace that owns them.
            for kind in _RIGHTS:
                _remove_objects(cluster, name, kind, keep)
            return None

        return ended(remove, lambda: audit(cluster, name), on_step)


def expired(settings: Settings) -> tuple[WorkshopName, ...]:
    """Return the workshops whose time is over; none where namespaces may not be listed."""
    with closing(Cluster.connect(settings)) as cluster:
        try:
            spaces = cluster.list(NAMESPACE, labels={MANAGED_BY: "qwenkit"})
        except Forbidden:
            return ()
    names = [labels_of(one).get(WORKSHOP_LABEL, "") for one in spaces if has_expired(one)]
    found = [WorkshopName(name) for name in dict.fromkeys(names) if name]
    # Its own namespace goes last, and is prolonged first: another may have been missed.
    living = {name_of(one) for one in spaces if not has_expired(one)}
    return tuple(one for one in found if one.namespace not in living)


def list_all(cluster: Cluster, name: WorkshopName, kind: Kind) -> list[Obj]:
    """List the objects of a workshop in all namespaces."""
    return cluster.list(kind, labels={WORKSHOP_LABEL: name.name}, everywhere=True)


def audit(cluster: Cluster, name: WorkshopName) -> Leaks:
    """List what is left of a workshop: its namespaces, and its objects in any namespace."""
    found, unknown = left_of(WITH_LABELS, partial(list_all, cluster, name))
    return Leaks(tuple(found), tuple(unknown))


def _remove_namespaces(
    cluster: Cluster,
    spaces: Iterable[Obj],
    limit_s: float,
    keep: Callable[[TeardownStep], None],
    on_change: OnChange | None,
) -> None:
    """Delete namespaces, some at once, and wait until they are gone with all that is in them."""
    wanted = {name_of(one): one["metadata"]["uid"] for one in spaces}
    if not wanted:
        return
    concurrently(wanted, partial(cluster.delete, NAMESPACE))

    def left() -> list[Obj]:
        all_ = cluster.list(NAMESPACE, labels=cluster.labels)
        return [one for one in all_ if wanted.get(name_of(one)) == one["metadata"]["uid"]]

    done = wait(
        left,
        what="namespaces gone",
        ready=lambda found: not found,
        describe=lambda found: (
            f"{len(found)} of {len(wanted)} namespaces are left{_blocked(found)}"
        ),
        timeout_s=limit_s,
        every_s=0.5,
        on_change=on_change,
    )
    for one in wanted:
        keep(TeardownStep(f"namespace {one}", True, f"gone after {done.seconds:.1f} s"))


def _blocked(spaces: Iterable[Obj]) -> str:
    """Return what Kubernetes says of the first namespace that does not end, such as finalizers."""
    for one in spaces:
        for each in (one.get("status") or {}).get("conditions") or []:
            if each.get("status") == "True":
                return f"; {name_of(one)}: {each.get('message')}"
    return ""


def _remove_objects(
    cluster: Cluster, name: WorkshopName, kind: Kind, keep: Callable[[TeardownStep], None]
) -> None:
    for obj in _found(cluster, name, kind):
        cluster.delete_made(obj)
        keep(TeardownStep(f"{kind} {name_of(obj)}", True, "deleted"))


def _found(cluster: Cluster, name: WorkshopName, kind: Kind) -> list[Obj]:
    found = cluster.list(kind, labels={WORKSHOP_LABEL: name.name})
    return [one for one in found if is_ours(one, run=cluster.run)]
