"""The steps of the course, each composed once; the command line and the notebooks call these.

    doctor(settings) → deploy(settings) → find_server(settings) → run_load(settings) → teardown

Each takes the settings, connects by itself and can be repeated safely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from qwenkit.admission.feature_flags import enable_command
from qwenkit.admission.pod.spec import needed_flags
from qwenkit.capacity.simulation.traffic import ClosedLoop
from qwenkit.cluster import deploy as deploying
from qwenkit.cluster import gateway, gpu_slot, occupants
from qwenkit.cluster import teardown as removal
from qwenkit.cluster.change.proposal import ProposedChange
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import Applied, Deployed
from qwenkit.cluster.diagnosis import explain as diagnosis
from qwenkit.cluster.diagnosis.bundle import read_bundle
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.status import Status
from qwenkit.cluster.diagnosis.status import status as read_status
from qwenkit.cluster.occupants import Occupant
from qwenkit.cluster.ownership import has_expired
from qwenkit.cluster.preflight.doctor import PreflightReport, examine
from qwenkit.cluster.preflight.region import internal_endpoint
from qwenkit.cluster.preflight.rights import role
from qwenkit.cluster.removal import PATIENT, Manner, TeardownStep
from qwenkit.cluster.teardown import Ended, Leaks, StoredWeights, TeardownReport
from qwenkit.cluster.wait import OnChange
from qwenkit.credentials import Credentials
from qwenkit.errors import QwenkitError
from qwenkit.errors.boundary import typed_in
from qwenkit.in_cluster.volume import VolumeWeights
from qwenkit.in_cluster.weights import Weights
from qwenkit.inference.client import Server, ask_clock
from qwenkit.inference.load.running import start_load
from qwenkit.inference.results import LoadResult
from qwenkit.manifests import render as manifests
from qwenkit.manifests.lint import lint, refuse
from qwenkit.manifests.storage import of_admin
from qwenkit.serving.profile import stop_token_ids
from qwenkit.settings import Settings
from qwenkit.weights.model_config import read_model_config
from qwenkit.weights.store import BucketWeights

Document = Mapping[str, Any]
OnStep = Callable[[TeardownStep], None]
LOAD_S = 30.0


class Manifests(list[CommentedMap]):
    """Rendered documents; ``reasons`` say why the server's settings and flags are as they are.

    ``as_documented`` is the documentation page's own Service, nothing added.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(manifests.render(settings))
        self.reasons = settings.profile.reasons
        self.as_documented = manifests.as_documented(settings)


def resolve(settings: Settings) -> Settings:
    """Return the settings with all that follows from the model's ``config.json``.

    It is looked for in the source's folder, the catalogue, the bucket and the hub. Set values
    stay; what is not found follows from less. In a bucket's region its internal endpoint is used.

    Raises:
        InvalidValue: a folder's ``config.json`` is that of no decoder.
    """
    gpu_slot.show_notes(settings)
    return internal_endpoint(settings.described_by(read_model_config(settings)))


def render(settings: Settings) -> Manifests:
    """Render what ``deploy`` applies: Secret (without keys), volume, claim and Service.

    Raises:
        Rejected: a set value contradicts the model, the GPU or the image; with the fix.

    >>> from qwenkit import Settings, render
    >>> [document["kind"] for document in render(Settings())]
    ['Secret', 'PersistentVolume', 'PersistentVolumeClaim', 'Service']
    """
    settings = resolve(settings)
    refuse(settings.contradictions())
    return Manifests(settings)


def for_admin(settings: Settings, user: str = "") -> tuple[list[Document], str]:
    """Render what an administrator makes for a role that is limited to one namespace.

    It is the PV (with OSS its claim, too), and the Role of all that qwenkit does in the namespace;
    with ``user``, who may be a service account, its binding. No teardown removes them. Also
    returns the command that enables the flags of Knative that the Service needs.
    """
    settings = resolve(settings)
    flags = needed_flags(manifests.render(settings)[-1]["spec"]["template"]["spec"])
    return [*of_admin(settings), *role(settings, user)], enable_command(*flags)


def doctor(settings: Settings) -> PreflightReport:
    """Check every prerequisite of the course; what is missing is in the report, not raised.

    >>> from qwenkit import Settings, doctor
    >>> report = doctor(Settings())
    >>> report.ok
    True
    """
    settings = resolve(settings)
    return examine(
        settings,
        bucket_check=lambda: Weights.of(settings).check(),
        secret=settings.secret,
        service=manifests.render(settings)[-1],
    )


def apply(settings: Settings, documents: Iterable[Document]) -> tuple[Applied, ...]:
    """Apply documents of ``render``, each after those that it refers to.

    The Secret gets its keys here, from the environment.

    Raises:
        SettingsError: the keys, the bucket or its endpoint are not set.
        Rejected: settings contradict each other, lint finds an error, or the API server refuses.
        Conflict: a name is taken by an object that is not this run's.

    >>> from qwenkit import Settings, apply, render
    >>> [one.kind for one in apply(Settings(), render(Settings())[:-1])]
    ['Secret', 'PersistentVolume', 'PersistentVolumeClaim']
    """
    documents = _ready_to_send(resolve(settings), documents)
    return deploying.apply_all(Cluster.connect(settings), documents)


def deploy(
    settings: Settings, *, mode: str | None = None, on_change: OnChange | None = None
) -> Deployed:
    """Apply Secret, PV, PVC and Service, and wait until the Service is Ready.

    ``on_change`` is called at each transition. ``mode`` is how a Service that serves is changed.

    Raises:
        SettingsError: the keys, the bucket or its endpoint are not set.
        Rejected: lint finds an error, a webhook refuses a document, or the weights are not as
            they were signed; nothing was changed.
        Conflict: a name is taken by an object that is not this run's; nothing was changed.
        NotFound: the gateway's address is not known, or the claim holds no model; nothing was
            changed.
        NotReady: the mode does not work; or it will not become ready, and is put back.
        WaitTimeout: it did not become ready in time.

    >>> from qwenkit import Settings, deploy
    >>> deploy(Settings()).revision
    'examples-00001'
    """
    settings = resolve(settings)
    documents = _ready_to_send(settings, manifests.render(settings))
    if settings.storage == "pvc":
        VolumeWeights(settings).require_filled()
    cluster, clock = Cluster.connect(settings), partial(ask_clock, partial(find_server, settings))
    bounded = gpu_slot.within_slot(cluster, settings, on_change=on_change)
    if bounded != settings:
        documents = _ready_to_send(bounded, manifests.render(bounded))
    return deploying.deploy(
        cluster, bounded, documents, mode=mode, clock=clock, on_change=on_change
    )


def propose(settings: Settings) -> ProposedChange | None:
    """Return what ``deploy`` would change of a Service that serves; None if nothing serves."""
    settings = resolve(settings)
    cluster, clock = Cluster.connect(settings), partial(ask_clock, partial(find_server, settings))
    settings = gpu_slot.bounded(settings, gpu_slot.read_slot(cluster, settings))
    documents = _ready_to_send(settings, manifests.render(settings))
    return deploying.propose(cluster, settings, documents, clock=clock)


def explain(settings: Settings) -> Explanation:
    """Return why the Service is not ready, or that it is: one cause, its evidence, one fix.

    >>> from qwenkit import Settings, explain
    >>> explain(Settings()).kind
    'ready'
    """
    return diagnosis.explain(Cluster.connect(settings), settings.service)


def explain_bundle(folder: Path, service: str = "") -> Explanation:
    """Explain the Service in a folder that ``evidence`` wrote; neither cluster nor bucket is asked.

    Raises:
        NotFound: the folder holds no bundle.
        InvalidValue: the bundle cannot be read, or holds several Services and none is named.
    """
    return diagnosis.diagnose(read_bundle(folder, service))


def find_server(settings: Settings, *, tag: str = "") -> Server:
    """Return a client of the served model, behind the cluster's gateway; of one tagged revision.

    Its API key is ``OPENAI_API_KEY``, else that of the Secret ``api_key_secret``.

    Raises:
        NotFound: the Service or the Secret does not exist, or the gateway's address is not known.
        NotReady: the Service has no URL yet.
        Forbidden: the Secret may not be read.

    >>> from qwenkit import Settings, find_server
    >>> find_server(Settings()).ask("杭州西湖", max_tokens=2, temperature=0).text
    '西湖位于'
    """
    cluster = Cluster.connect(settings)
    found = gateway.find_gateway(cluster, settings, tag)
    return Server(
        found.url,
        found.host,
        model=settings.served_model_name,
        timeout_s=settings.timeout_s,
        api_key=gateway.api_key(cluster, settings),
        ca=settings.gateway_ca,
        stop_token_ids=stop_token_ids(settings.model, settings.model_name),
        before=partial(gpu_slot.within_slot, cluster, settings),
    )


def run_load(settings: Settings) -> LoadResult:
    """Send the requests of ``load_clients`` closed-loop clients for ``load_seconds``, else 30 s.

    Raises:
        NotFound: the Service does not exist, or the gateway's address is not known.
    """
    gpu_slot.within_slot(Cluster.connect(settings), settings)
    steps = (0.0, settings.load_clients), (settings.load_seconds or LOAD_S, 0)
    return start_load(find_server(settings), ClosedLoop(steps), **load_request(settings)).result()


def load_request(settings: Settings) -> dict[str, Any]:
    """Return what each request of a load asks: a long prompt, always the same, and its answer."""
    letters = settings.load_prompt_tokens * (4 if settings.prompt.isascii() else 2)
    prompt = settings.prompt * max(1, round(letters / max(1, len(settings.prompt))))
    return {"prompt": prompt, "max_tokens": settings.load_tokens, "temperature": 0}


def teardown(
    settings: Settings,
    *,
    on_step: OnStep | None = None,
    on_change: OnChange | None = None,
) -> TeardownReport:
    """Remove what this run created, in the right order; weights only with ``delete_weights``.

    ``on_step`` is called after each step, ``on_change`` when what it waits for changes.

    Raises:
        WaitTimeout: an object was not deleted in time. What can be removed was removed, as after
            every error; the evidence says what is left.

    >>> from qwenkit import Settings, audit, teardown
    >>> removed = teardown(Settings())
    >>> audit(Settings()).found
    ()
    """
    manner = PATIENT if on_change is None else Manner(on_change)
    ended = remove_and_audit(settings, on_step=on_step, manner=manner)
    if isinstance(ended.error, QwenkitError):
        left = [f"left: {what}" for what in ended.leaks.found]
        ended.error.context["evidence"] = (*ended.error.context.get("evidence", ()), *left)
    if ended.error is not None:
        raise ended.error
    return ended.removed


def remove_and_audit(
    settings: Settings,
    *,
    also: Iterable[Occupant] = (),
    on_step: OnStep | None = None,
    manner: Manner = PATIENT,
) -> Ended:
    """Tear down and then audit, also after an error or an interrupt, which are in the answer.

    ``also`` are objects of other runs that are removed first.

    Raises:
        QwenkitError: the cluster cannot be connected to; nothing was done.
    """
    ended = removal.remove_and_audit(
        lambda: Cluster.connect(settings),
        settings,
        open_weights=lambda: _weights(settings),
        first=lambda keep: evict(settings, also, on_step=keep, manner=manner),
        on_step=on_step,
        manner=manner,
    )
    gpu_slot.leave(settings)
    return ended


def remove_expired(
    settings: Settings, *, on_step: OnStep | None = None, manner: Manner = PATIENT
) -> Ended:
    """Remove what has expired in the namespace, of any run, and then audit; weights are kept.

    Raises:
        QwenkitError: the cluster cannot be connected to; nothing was done.
    """
    cluster = Cluster.connect(settings)
    return removal.ended(
        lambda keep: evict(
            settings, occupants.expired(cluster), on_step=keep, manner=manner, chosen=has_expired
        ),
        lambda: removal.audit_expired(cluster),
        on_step,
    )


def find_occupants(settings: Settings) -> tuple[Occupant, ...]:
    """Return what qwenkit made, in this or another run, under the names of these settings."""
    cluster = Cluster.connect(settings)
    return occupants.occupants(cluster, settings.service, settings.volume, settings.secret)


def evict(
    settings: Settings,
    taken: Iterable[Occupant],
    *,
    on_step: OnStep,
    manner: Manner = PATIENT,
    chosen: Callable[[Document], bool] = lambda _obj: True,
) -> QwenkitError | None:
    """Remove what other runs made, as ``find_occupants`` returned it; weights are kept.

    Returns the first failure, after everything else is removed.
    """
    return occupants.evict(
        lambda run: Cluster.connect(settings.model_copy(update={"run": run})),
        taken,
        timeout_s=settings.seconds("teardown"),
        manner=manner,
        on_step=on_step,
        chosen=chosen,
    )


def status(settings: Settings) -> Status:
    """Return what runs now, where, since when and at what cost; changes nothing.

    Raises:
        QwenkitError: the cluster cannot be connected to, or Knative is not installed.
    """
    cluster = Cluster.connect(settings)
    taken = occupants.occupants(cluster, settings.service, settings.volume, settings.secret)
    others = [one for one in taken if one.run != settings.run]
    return read_status(
        cluster, settings, weights=lambda: Weights.of(settings).kept(), others=others
    )


def audit(settings: Settings) -> Leaks:
    """List the objects with this run's labels, and what the bucket still holds.

    >>> from qwenkit import Settings, audit
    >>> len(audit(Settings()).found) > 0  # the service still runs
    True
    """
    return removal.audit(Cluster.connect(settings), settings, weights=_weights(settings))


def _ready_to_send(settings: Settings, documents: Iterable[Document]) -> list[Document]:
    if settings.storage != "oss":
        settings.require(*["nas_server"] * (settings.storage == "nas"))
    elif settings.oss_auth == "rrsa":
        settings.require("bucket", "oss_endpoint", "rrsa_role")
    else:
        keys = Credentials.required()
        settings.require("bucket", "oss_endpoint")
    found = list(documents)
    refuse([*settings.contradictions(), *lint(found, gpu=settings.gpu_name)])
    if settings.storage == "oss" and (settings.signer or settings.oss_auth == "key"):
        BucketWeights.of(settings).require_signed()
    return [manifests.secret(settings, keys) if d.get("kind") == "Secret" else d for d in found]


def _weights(settings: Settings) -> StoredWeights | None:
    return Weights.of(settings) if settings.bucket or settings.storage != "oss" else None


typed_in(globals())
