"""Make a workshop, or what is missing of it; safe to stop at any moment and to run again."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gateway import gateway_url, ingress_class
from qwenkit.cluster.kinds import (
    NAMESPACE,
    NODE,
    PV,
    PVC,
    SECRET,
    Obj,
    annotations_of,
    kind_of,
    labels_of,
    name_of,
)
from qwenkit.cluster.ownership import require_ours, require_same
from qwenkit.credentials import Credentials
from qwenkit.errors import InvalidValue, NotFound, QwenkitError
from qwenkit.language import Shown
from qwenkit.settings import Settings
from qwenkit.weights.oss.manifest import read_manifest
from qwenkit.weights.store import BucketWeights
from qwenkit.workshop import description, objects
from qwenkit.workshop.bill import Forecast, forecast
from qwenkit.workshop.description import Description
from qwenkit.workshop.names import Participant, WorkshopName

S = TypeVar("S")
T = TypeVar("T")
OnStep = Callable[[str], None]
AT_ONCE = 8  # namespaces that are worked on at the same time
LASTS = "12h"
_MOST = 500  # participants
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass(frozen=True, repr=False)
class Created(Shown):
    """A workshop that stands, or with ``dry_run`` would stand, and how long it took."""

    workshop: Description
    objects: int
    seconds: float
    forecast: Forecast
    dry_run: bool = False

    def __str__(self) -> str:
        people = len(self.workshop.participants)
        stands = "would stand" if self.dry_run else "stands"
        return (
            f"workshop {self.workshop.name.name} {stands}: {people} participants, "
            f"{self.workshop.gpu_slots} GPU slots, until {self.workshop.expires_at}\n"
            f"  {self.objects} objects in {people + 1} namespaces, {self.seconds:.1f} s\n"
            f"  {self.forecast}"
        )


def create(
    settings: Settings,
    name: WorkshopName,
    participants: Sequence[str],
    gpu_slots: int,
    *,
    dry_run: bool = False,
    clean_up: bool = False,
    on_step: OnStep = lambda _line: None,
) -> Created:
    """Make the namespaces of a workshop with all that is in them; what is there already stays.

    Args:
        settings: the instructor's: context, weights, server; its end by ``expires_after`` (12 h).
        name: the workshop.
        participants: a name to show of each, which may be empty.
        gpu_slots: the GPUs that all of them share.
        dry_run: change nothing.
        clean_up: a CronJob removes the workshop after its end; needs ``transfer_image``.
        on_step: called with a line for each participant.

    Raises:
        InvalidValue: no such number of participants or slots, or the weights cannot be shared.
        NotFound: the weights are not in the bucket.
        Conflict: a name is taken by an object that is not this workshop's.
    """
    began = time.monotonic()
    _require(settings, name, participants, gpu_slots)
    with closing(description.connect(settings, name)) as cluster:
        wanted = _wanted(cluster, settings, name, participants, gpu_slots)
        shared = _shared(cluster, settings)
        keys = Credentials.required() if settings.oss_auth == "key" else None
        nodes = cluster.list(NODE)
        own = objects.own_objects(
            wanted, settings, keys, nodes, login=shared.login, clean_up=clean_up
        )
        made = len(own)
        if not dry_run:
            home, *rest = own
            cluster.apply(home)
            ensure_all(cluster, _owned(rest, cluster.get(NAMESPACE, name.namespace)))

        def stand(who: Participant) -> int:
            docs = objects.participant_objects(wanted, settings, who, shared=shared)
            if not dry_run:
                ensure_all(cluster.at(who.namespace), docs)
                on_step(f"{who.id}: {who.namespace} stands")
            return len(docs)

        made += sum(concurrently(wanted.participants, stand))
    ahead = forecast(settings, wanted)
    return Created(wanted, made, time.monotonic() - began, ahead, dry_run)


def concurrently(items: Iterable[S], work: Callable[[S], T]) -> list[T]:
    """Do work for all items, some at once; after a failure the others are still done.

    Raises:
        QwenkitError: the first failure; its evidence names the others.
    """
    failures: list[QwenkitError] = []
    found: list[T] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(work, one) for one in items]
        try:
            for future in as_completed(futures):
                try:
                    found.append(future.result())
                except QwenkitError as error:
                    failures.append(error)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        others = tuple(error.what for error in failures[1:])
        failures[0].context["evidence"] = (*failures[0].context.get("evidence", ()), *others)
        raise failures[0]
    return found


def ensure_all(cluster: Cluster, docs: Iterable[Obj]) -> None:
    """Make documents that are missing, and change those of ours; see ``objects.is_made_once``."""
    for doc in docs:
        kind, name = kind_of(doc), name_of(doc)
        existing = cluster.find(kind, name) if objects.is_made_once(doc) else None
        if existing is None:
            cluster.apply(doc)
            continue
        require_ours(existing, run=cluster.run, namespace=cluster.namespace)
        if kind in (PV, PVC):
            require_same(existing, doc)
        if (existing.get("status") or {}).get("phase") == "Released":
            # Its claim went with a namespace that somebody deleted; it would never be bound again.
            old = {"uid": None, "resourceVersion": None}
            cluster.patch(kind, name, {"spec": {"claimRef": old}})
        labels, notes = labels_of(doc), annotations_of(doc)
        if labels.items() - labels_of(existing).items() or (
            notes.items() - annotations_of(existing).items()
        ):
            cluster.patch(kind, name, {"metadata": {"labels": labels, "annotations": notes}})


def _owned(docs: Iterable[Obj], home: Obj) -> Iterator[Obj]:
    """Let the cluster's own objects go with a namespace: its CronJob could not remove its role."""
    owner = {"apiVersion": "v1", "kind": "Namespace", "name": name_of(home)}
    owner["uid"] = home["metadata"]["uid"]
    for doc in docs:
        owned = doc["kind"].startswith("ClusterRole")
        more = {"ownerReferences": [owner]} if owned else {}
        yield doc | {"metadata": doc["metadata"] | more}


def _require(
    settings: Settings, name: WorkshopName, participants: Sequence[str], gpu_slots: int
) -> None:
    if not _NAME.fullmatch(name.name):
        rule = "must be a DNS label of at most 30: a letter, then a-z, 0-9 and -"
        raise InvalidValue("name", name.name, rule, "--name ws")
    if not 1 <= len(participants) <= _MOST:
        raise InvalidValue("participants", len(participants), f"must be 1 to {_MOST}")
    if not 0 <= gpu_slots <= 1000:
        raise InvalidValue("gpu_slots", gpu_slots, "must be 0 to 1000")
    if settings.storage != "oss":
        rule = "participants share the weights of a bucket"
        raise InvalidValue("storage", settings.storage, rule, "--set storage=oss")
    settings.require("bucket", "oss_endpoint", *["rrsa_role"] * (settings.oss_auth == "rrsa"))


def _wanted(
    cluster: Cluster,
    settings: Settings,
    name: WorkshopName,
    participants: Sequence[str],
    gpu_slots: int,
) -> Description:
    """Return the workshop as it shall be; of one that is there, the participants and end stay."""
    there = description.find(cluster, name)
    people = {one.id: one for one in there.participants} if there else {}
    for number, display_name in enumerate(participants, 1):
        one = name.participant(number, display_name)
        people[one.id] = one if display_name else people.get(one.id, one)
    end = there.expires_at if there and there.hours_left() else end_after(settings)
    made = Description(
        name,
        tuple(people.values()),
        gpu_slots,
        end,
        objects.shared_parameters(settings),
        gateway_url(cluster, settings.gateway),
    )
    return made if there is None else replace(made, gateway=settings.gateway or made.gateway)


def end_after(settings: Settings) -> str:
    """Return when a workshop that begins now ends, RFC 3339 in UTC."""
    seconds = parse_duration_s(settings.expires_after or LASTS)
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shared(cluster: Cluster, settings: Settings) -> objects.Shared:
    """Read what every participant gets alike.

    Raises:
        NotFound: the instructor's namespace lacks the registry's login, or no weights are there.
    """
    login = None
    if name := settings.image_pull_secret:
        found = cluster.get(SECRET, name, namespace=settings.namespace)
        login = {key: found[key] for key in ("apiVersion", "kind", "metadata", "type", "data")}
    inside = (ingress_class(cluster) or "istio").startswith(("kourier", "istio", "contour"))
    return objects.Shared(_files(settings), not inside, login)


def _files(settings: Settings) -> str:
    """Return what the bucket's manifest says of the weights, which no participant may read there.

    Raises:
        NotFound: no upload to the prefix has ended.
    """
    weights = BucketWeights.of(settings)
    manifest = read_manifest(weights.bucket, settings.prefix)
    if manifest is None:
        fix = f"qwenkit upload {settings.model_source} {weights.url}"
        raise NotFound(f"{weights.url} holds no model", "no upload to it has ended", fix)
    files = [
        {key: value for key, value in asdict(file).items() if key != "etag"}
        for file in manifest.files
    ]
    return json.dumps({"source": manifest.source, "revision": manifest.revision, "files": files})
