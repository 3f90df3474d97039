"""One GPU and two participants on a sandbox: keepers, quotas, pods, and what people are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest
from real_sandbox import eventually

from qwenkit.cli import main
from qwenkit.cluster import gpu_slot
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.gpu_slot import GpuSlot
from qwenkit.cluster.kinds import LEASE, POD, RESOURCE_QUOTA, REVISION, Obj
from qwenkit.cluster.pods import node_of
from qwenkit.cluster.preflight.free_gpus import free_gpus
from qwenkit.errors import NotReady
from qwenkit.loadtest.story import wake
from qwenkit.sandbox import process, state_files
from qwenkit.settings import Settings
from qwenkit.steps import deploy, find_server, teardown
from qwenkit.workshop.create import create
from qwenkit.workshop.delete import delete
from qwenkit.workshop.documents import document
from qwenkit.workshop.names import KEEPER, WorkshopName
from qwenkit.workshop.slots.day import end_day
from qwenkit.workshop.slots.hours import ClassHours
from qwenkit.workshop.slots.keeper import Keeper
from qwenkit.workshop.slots.room import Look, Room

WS = WorkshopName("ws")
GPU = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("slots") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=200, gpus=1))
    yield root
    process.down(root)


@pytest.fixture(scope="module")
def whole(root: Path) -> Iterator[Settings]:
    """Make the workshop, with the weights that its participants share."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in process.environment(root).items():
            patch.setenv(name, value)
        settings = Settings()
        words = ["upload", settings.model_source, settings.weights_url]
        done = [sys.executable, "-m", "qwenkit", *words]
        subprocess.run(done, check=True, capture_output=True, timeout=60)
        create(settings.model_copy(update={"transfer_image": ""}), WS, ["Ann", "Bob"], 1)
        yield settings


@pytest.fixture
def settings(root: Path, whole: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in process.environment(root).items():
        monkeypatch.setenv(name, value)
    return whole


@pytest.fixture
def room(settings: Settings) -> Iterator[Room]:
    """Return the slots, in their first state and used by nobody."""
    room = Room.connect(settings, WS)
    room.edit(lambda slots: replace(slots, frozen=False, ended="", hours=None, note=""))
    yield room
    room.cluster.close()


@contextmanager
def keeping(room: Room) -> Iterator[Keeper]:
    """Keep the slots in the background, faster than in a class."""
    keeper, stop = Keeper(room), Event()
    worker = Thread(target=keeper.run, args=(lambda _seconds: stop.wait(0.1),))
    worker.start()
    try:
        yield keeper
    finally:
        stop.set()
        worker.join()


def participant(settings: Settings, who: str) -> Settings:
    own = {"namespace": f"ws-{who}", "run": who, "workshop": "ws", "volume": f"ws-{who}"}
    more = {"storage": "shared", "api_key_secret": "qwen-api-key", "timeout_s": 60.0}
    return settings.model_copy(update=own | more)


def gpu_pods(cluster: Cluster) -> list[Obj]:
    return [pod for pod in cluster.list(POD) if node_of(pod)]


def test_two_share_one_gpu(settings: Settings, room: Room) -> None:
    ann, bob = participant(settings, "p01"), participant(settings, "p02")
    for_ann, for_bob = Cluster.connect(ann), Cluster.connect(bob)
    told: list[str] = []
    with keeping(room):
        deploy(ann)
        assert gpu_slot.read_slot(for_ann, ann).gpus == 1
        service = for_ann.get("ksvc", ann.service)
        scale = service["spec"]["template"]["metadata"]["annotations"]
        assert scale["autoscaling.knative.dev/max-scale"] == "1"
        spec = {"containers": [GPU]}
        assert str(free_gpus(for_ann, spec)) == "0 of 1 free"
        assert free_gpus(for_bob, spec).places == 0

        # Bob waits while Ann has it, and is told for how long.
        waiter = Thread(target=lambda: deploy(bob, on_change=lambda one: told.append(one.state)))
        waiter.start()
        eventually(lambda: any("waiting for a GPU: number 1, expected at" in one for one in told))
        assert gpu_slot.read_slot(for_bob, bob).position == 1
        assert gpu_slot.give_back(for_ann)
        waiter.join()
        assert any(one.startswith("you hold 1 GPU until") for one in told)
        assert not gpu_pods(for_ann)

        # It is taken back; Ann's pod, which the quota refused meanwhile, is made at once.
        room.edit(lambda slots: slots.freed("p02"))
        eventually(lambda: not gpu_pods(for_bob))
        assert for_bob.find(LEASE, gpu_slot.GPU_SLOT) is None
        gpu_slot.hold(for_ann, ann)
        deploy(ann)
        eventually(lambda: gpu_pods(for_ann))

        # Whoever asks the model without a slot gets one first.
        gpu_slot.give_back(for_ann)
        eventually(lambda: not gpu_pods(for_ann))
        with closing(find_server(ann)) as server:
            assert server.ask(ann.prompt, max_tokens=1).text
        assert wake(ann).served.ready == 1
        assert gpu_slot.lost(for_ann, ann) is None

        # What one has used is what their pods have used.
        used = room.read().used()
        assert set(used) == {"p01", "p02"}
        assert all(0 < seconds < 60 for seconds in used.values())
        teardown(ann)
        teardown(bob)
        eventually(lambda: not room.read().grants)
    assert not room.look().pods


def test_a_pod_that_the_quota_refused_comes_soon_after_the_grant(
    settings: Settings, room: Room
) -> None:
    ann = participant(settings, "p01").model_copy(update={"min_scale": 1})
    cluster = Cluster.connect(ann)
    with keeping(room):
        deploy(ann)
        gpu_slot.give_back(cluster)
        eventually(lambda: not gpu_pods(cluster))
        eventually(lambda: any(has_room(one) for one in cluster.list("ReplicaSet")))
        gpu_slot.hold(cluster, ann)
        eventually(lambda: gpu_pods(cluster))
        teardown(ann)


def has_room(replica_set: Obj) -> bool:
    return bool(replica_set["spec"].get("replicas")) and not replica_set["status"].get("replicas")


def test_a_larger_quota_is_known_once_its_status_says_so(room: Room) -> None:
    keeper, hard = Keeper(room), room.hard
    seen: list[list[str]] = []
    keeper._raised = {"p01"}
    for enforced in ("0", "1", "1"):
        quota = {"spec": {"hard": {hard: "1"}}, "status": {"hard": {hard: enforced}}}
        seen.append(keeper._known(Look({"p01": quota}, {}, {})))
    assert seen == [[], ["p01"], []]


def test_a_namespace_that_is_called_as_a_participant_is_left_alone(room: Room) -> None:
    cluster = room.cluster.at("p01")
    labels = {"labels": cluster.labels}
    cluster.apply(document("v1", "Namespace", "p01") | {"metadata": labels | {"name": "p01"}})
    pod = document(
        "v1", "Pod", "own", "p01", spec={"containers": [{"name": "c", "image": "i"} | GPU]}
    )
    cluster.apply(pod | {"metadata": pod["metadata"] | labels})
    keeper = Keeper(room)
    made = keeper.turn()
    assert made is not None
    assert not made.drain
    assert not room.look().pods
    cluster.delete(POD, "own")
    cluster.delete("namespace", "p01")
    keeper.close()


def test_which_gpus_are_shared_the_workshop_knows(settings: Settings) -> None:
    mig = WorkshopName("mig")
    own = {"gpu_resource": "nvidia.com/mig-1g.10gb", "transfer_image": ""}
    create(settings.model_copy(update=own), mig, [""], 1)
    assert Room.connect(settings, mig).hard == "requests.nvidia.com/mig-1g.10gb"
    assert not delete(settings, mig).leaks.found


def test_a_keeper_says_once_what_is_in_its_way(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(room)
    for _ in range(2):
        keeper._warn(NotReady("no right", "why", "fix"))
    assert len(caplog.records) == 1


def test_of_two_keepers_one_works_and_the_other_takes_over(room: Room) -> None:
    first, second = Keeper(room), Keeper(room)
    assert first.turn() is not None
    assert second.turn() is None
    assert room.cluster.get(LEASE, KEEPER)["spec"]["holderIdentity"] == first.identity
    first.close()
    assert second.turn() is not None
    second.close()


def test_of_edits_at_the_same_time_none_is_lost(room: Room) -> None:
    letters = "abcd"
    with ThreadPoolExecutor() as pool:
        for letter in letters:
            pool.submit(room.edit, lambda slots, one=letter: replace(slots, note=slots.note + one))
    assert sorted(room.read().note) == list(letters)


def test_a_wish_of_nonsense_is_cut_and_a_repaired_quota_is_the_keeper_s(
    settings: Settings, room: Room
) -> None:
    ann = participant(settings, "p01")
    cluster = Cluster.connect(ann)
    gpu_slot.ask_for(cluster, ann, gpus=500, minutes=1000)
    keeper = Keeper(room)
    made = keeper.turn()
    assert made is not None
    grant = made.slots.grants["p01"]
    assert (grant.gpus, grant.until - grant.since) == (1, 3600)
    admin = room.space("p01")
    admin.patch(RESOURCE_QUOTA, "workshop", {"spec": {"hard": {room.hard: "9"}}})
    keeper.turn()
    assert admin.get(RESOURCE_QUOTA, "workshop")["spec"]["hard"][room.hard] == "1"
    gpu_slot.give_back(cluster)
    keeper.turn()
    assert admin.get(RESOURCE_QUOTA, "workshop")["spec"]["hard"][room.hard] == "0"
    keeper.close()


def test_in_class_hours_a_server_is_kept_warm_without_a_new_revision(
    settings: Settings, room: Room
) -> None:
    ann = participant(settings, "p01").model_copy(update={"stable_window": "6s"})
    cluster = Cluster.connect(ann)
    room.edit(lambda slots: replace(slots, hours=ClassHours(0, 86_400, min_scale=1)))
    with keeping(room):
        served = deploy(ann)
        gpu_slot.give_back(cluster)
        eventually(lambda: not gpu_pods(cluster))
        gpu_slot.hold(cluster, ann)
        eventually(lambda: gpu_pods(cluster))
        revision = cluster.get(REVISION, served.revision)
        assert revision["metadata"]["annotations"]["autoscaling.knative.dev/min-scale"] == "1"
        assert len(cluster.list(REVISION)) == 1
        gpu_slot.give_back(cluster)
        eventually(lambda: min_scale(cluster, served.revision) == "0")
        teardown(ann)


def min_scale(cluster: Cluster, revision: str) -> str:
    annotations = cluster.get(REVISION, revision)["metadata"]["annotations"]
    return str(annotations.get("autoscaling.knative.dev/min-scale", "0"))


def test_the_day_ends_with_no_gpu_held_and_nobody_gets_one(settings: Settings, room: Room) -> None:
    ann = participant(settings, "p01")
    cluster = Cluster.connect(ann)
    with keeping(room):
        deploy(ann)
    end_day(room, timeout_s=60)
    assert not gpu_pods(cluster)
    assert gpu_slot.read_slot(cluster, ann).closed == "ended"
    with keeping(room), pytest.raises(NotReady, match="was taken away"):
        gpu_slot.hold(cluster, ann)
    teardown(ann)


@pytest.fixture
def qwenkit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    def run(*words: str, rc: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["qwenkit", "workshop", *words])
        assert main.main() == rc, capsys.readouterr()
        return capsys.readouterr().out

    return run


def test_the_commands(qwenkit: Callable[..., str], settings: Settings, room: Room) -> None:
    name = ("--name", "ws")
    mine = [f"--set={key}" for key in ("namespace=ws-p01", "run=p01", "workshop=ws")]
    assert "waiting for a GPU" not in qwenkit("ask", "--no-wait", *mine)
    assert "held by participants: 1 of 1" in qwenkit("note", "back at\x1b[2J two", *name)
    found = GpuSlot(**parsed(qwenkit("slot", "--json", *mine)))
    assert (found.slot, found.note) == ("granted", "back at[2J two")
    assert "you hold 1 GPU until" in qwenkit("ask", "--minutes", "30", *mine)
    assert "no GPUs now: frozen" in qwenkit("freeze", *name)
    assert parsed(qwenkit("slot", "--json", *mine, rc=1))["slot"] == "waiting"
    assert "held by participants: 1 of 1" in qwenkit("unfreeze", *name)
    assert "held by participants: 0 of 1" in qwenkit("free", "p01", *name)
    hours = ("--from", "09:00", "--until", "17:00", "--warm-minutes", "15")
    said = qwenkit("hours", *hours, "--budget-gpu-hours", "2", *name)
    assert "class hours: 09:00 to 17:00, GPUs 15 minutes before" in said
    assert "of 120 GPU minutes" in said
    qwenkit("hours", "--budget-gpu-hours", "0", *name)
    qwenkit("keep", "--once", *name)
    assert "there was no GPU slot" in qwenkit("give-back", *mine)
    assert "GPU minutes" in qwenkit("end", *name)


def parsed(text: str) -> dict[str, object]:
    found = json.loads(text)
    return {key: found[key] for key in GpuSlot.__dataclass_fields__}


def test_in_the_cluster_a_keeper_works_without_anybody_s_laptop(
    settings: Settings, room: Room
) -> None:
    create(settings, WS, ["Ann", "Bob"], 1)
    ann = participant(settings, "p01")
    cluster = Cluster.connect(ann)
    assert gpu_slot.hold(cluster, ann, timeout_s=60).gpus == 1
    (pod,) = room.cluster.list(POD, labels={"app": KEEPER})
    name, line = pod["metadata"]["name"], "GPUs are held by p01; waiting: 0"
    eventually(lambda: line in room.cluster.logs(name, container=KEEPER))
    gpu_slot.give_back(cluster)
    eventually(lambda: not room.read().grants)
    room.cluster.delete("deployment", KEEPER)
    eventually(lambda: not room.cluster.list(POD, labels={"app": KEEPER}))


def test_a_keeper_ends_where_there_is_no_workshop(settings: Settings) -> None:
    gone = Room.connect(settings, WorkshopName("gone"))
    Keeper(gone).run(lambda _seconds: pytest.fail("it went on"))
