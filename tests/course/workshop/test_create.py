"""A workshop on the sandbox: made, shared, extended, killed, removed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from real_sandbox import RealSandbox, eventually

from qwenkit import Cluster, Settings, Weights, wait_bound
from qwenkit.cli.main import main
from qwenkit.errors import Conflict, Forbidden, InvalidValue, NotFound
from qwenkit.sandbox import process
from qwenkit.sandbox.faults.catalogue import parse
from qwenkit.sandbox.faults.client import call
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE
from qwenkit.weights.store import BucketWeights
from qwenkit.workshop import manage, sheets
from qwenkit.workshop.create import create
from qwenkit.workshop.delete import audit, delete, expired
from qwenkit.workshop.description import connect
from qwenkit.workshop.names import WorkshopName

NAME = WorkshopName("ws")
KINDS = (
    *("namespaces", "persistentvolumes", "persistentvolumeclaims", "secrets", "configmaps"),
    *("serviceaccounts", "roles", "rolebindings", "resourcequotas", "limitranges"),
    "networkpolicies",
)


@pytest.fixture
def gone(settings: Settings) -> Iterator[None]:
    yield
    assert not delete(settings, NAME).leaks.found


def shape(sandbox: RealSandbox) -> dict[str, list[str]]:
    """Return what there is of the workshop, without what differs from one creation to another."""
    everything = json.loads(
        sandbox.kubectl("get", ",".join(KINDS), "-A", "-l", "qwenkit.dev/workshop", "-o", "json")
    )
    found: dict[str, list[str]] = {}
    for one in everything["items"]:
        meta = one["metadata"]
        spec = {key: one[key] for key in ("rules", "roleRef", "subjects", "spec") if key in one}
        for key in ("claimRef", "finalizers"):
            spec.get("spec", {}).pop(key, None)
        key = f"{one['kind']} {meta.get('namespace', '')}/{meta['name']}"
        keys = sorted(one.get("data") or {})
        found[key] = [json.dumps(spec, sort_keys=True), json.dumps(meta["labels"]), *keys]
    return found


@pytest.mark.usefixtures("gone")
def test_a_second_creation_changes_nothing_that_others_wrote(
    settings: Settings, sandbox: RealSandbox
) -> None:
    made = create(settings, NAME, ["李明", ""], 1)
    before = shape(sandbox)
    secret = ("get", "secret", "qwen-api-key", "-n", "ws-p01", "-o", "jsonpath={.data}")
    key = sandbox.kubectl(*secret)
    quota = '{"spec":{"hard":{"requests.nvidia.com/gpu":"1"}}}'
    sandbox.kubectl("patch", "quota", "workshop", "-n", "ws-p01", "--type=merge", "-p", quota)
    sandbox.kubectl("delete", "role", "participant", "-n", "ws-p02")

    again = create(settings, NAME, ["", ""], 1)

    assert again.workshop == made.workshop  # the names stay, and so does the end
    assert sandbox.kubectl(*secret) == key
    after = shape(sandbox)
    granted = after.pop("ResourceQuota ws-p01/workshop")[0]
    assert json.loads(granted)["spec"]["hard"]["requests.nvidia.com/gpu"] == "1"
    assert after == {k: v for k, v in before.items() if k != "ResourceQuota ws-p01/workshop"}


@pytest.fixture
def participant(
    sandbox: RealSandbox, settings: Settings, gone: None, tmp_path: Path
) -> Iterator[Settings]:
    """Return the settings of the first of two participants, in an environment like theirs."""
    create(settings, NAME, ["", ""], 1)
    own = Path(sheets.write(settings, NAME, tmp_path / "sheets").folder) / "p01"
    with pytest.MonkeyPatch.context() as patch:
        for name in process.environment(sandbox.root):
            patch.delenv(name, raising=False)
        patch.setenv("KUBECONFIG", str(own / "kubeconfig"))
        yield Settings.load(own / "params.yaml")


def test_a_participant_reads_the_shared_weights_and_nothing_of_others(
    participant: Settings,
) -> None:
    cluster, weights = Cluster.connect(participant), Weights.of(participant)
    bound = wait_bound(cluster, participant.volume, timeout_s=10)
    assert bound.value["status"]["phase"] == "Bound"
    report, verified = weights.upload(), weights.verify()
    files = weights.source.listing().files
    listing = {f"{participant.prefix}/{file.path}": file.sha256 for file in files}
    assert {file.key: file.sha256 for file in report.files} == listing
    assert report.bytes_sent == 0
    assert verified.ok
    assert set(listing) <= {one.key for one in weights.objects()}
    assert weights.delete_objects() == 0
    with pytest.raises(Forbidden):
        cluster.get("secret", "qwen-api-key", namespace="ws-p02")
    with pytest.raises(Forbidden):
        cluster.list("secret")
    with pytest.raises(Forbidden, match="administrator"):
        BucketWeights.of(participant)


@pytest.mark.usefixtures("gone")
def test_sheets_can_be_printed_and_are_private(settings: Settings, tmp_path: Path) -> None:
    create(settings, NAME, ["<script>alert(1)</script>", "李明"], 1)
    given = sheets.write(settings, NAME, tmp_path / "sheets", link="https://files.example/ws")
    folder = Path(given.folder)
    page, chinese = ((folder / n).read_text("utf-8") for n in ("sheets.html", "sheets.zh.html"))
    assert "<script" not in page
    assert "&lt;script" in page
    assert "https://files.example/ws/p02/sheet.html" in page
    assert "A GPU, when you need one" in page
    assert "需要 GPU 时" in chinese
    token = json.loads((folder / "p02/kubeconfig").read_text())["users"][0]["user"]["token"]
    assert token not in page  # only a participant's own sheet carries it
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}
    one = sheets.write(settings, NAME, folder, only=["李明"])
    assert one.sheets == 1
    renewed = json.loads((folder / "p02/kubeconfig").read_text())["users"][0]["user"]["token"]
    assert renewed != token
    with pytest.raises(NotFound):
        sheets.write(settings, NAME, folder, only=["p09"])


@pytest.mark.usefixtures("gone")
def test_it_can_be_extended_and_is_removed_after_its_end(
    settings: Settings,
    sandbox: RealSandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create(settings, NAME, [""], 1)
    assert not expired(settings)
    longer = manage.extend(settings.model_copy(update={"expires_after": "100h"}), NAME)
    ends = sandbox.kubectl(
        *("get", "ns,pv,pvc,quota,cm,secret", "-A", "-l", "qwenkit.dev/workshop=ws"),
        *("-o", r"jsonpath={.items[*].metadata.annotations.qwenkit\.dev/expires-at}"),
    )
    assert set(ends.split()) == {longer.expires_at}
    with pytest.raises(InvalidValue, match="ends already"):
        manage.extend(settings.model_copy(update={"expires_after": "1h"}), NAME)
    found = manage.status(settings, NAME)
    assert (found.missing, found.holding, found.images) == ((), (), 1)
    assert found.bill.gpu_seconds == 0
    past = '{"metadata":{"annotations":{"qwenkit.dev/expires-at":"2020-01-01T00:00:00Z"}}}'
    sandbox.kubectl("patch", "ns", "ws-p01", "--type=merge", "-p", past)
    assert not expired(settings)  # it was missed when the workshop was extended
    sandbox.kubectl("patch", "ns", "qwenkit-ws", "--type=merge", "-p", past)
    assert expired(settings) == (NAME,)
    monkeypatch.setattr(sys, "argv", ["qwenkit", "teardown", "--expired", "--json"])
    assert main() == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["leaks"] == {"found": [], "unknown": []}
    assert "namespace qwenkit-ws" in [step["name"] for step in answer["removed"]["steps"]]


@pytest.mark.usefixtures("gone")
def test_rights_in_the_whole_cluster_go_with_the_namespace(
    settings: Settings, sandbox: RealSandbox
) -> None:
    image = {"transfer_image": TRANSFER_IMAGE}
    create(settings.model_copy(update=image), NAME, [""], 1, clean_up=True)
    rights = ("get", "clusterrole,clusterrolebinding", "-l", "qwenkit.dev/workshop", "-o", "name")
    assert "cleaner" in sandbox.kubectl(*rights)
    sandbox.kubectl("delete", "ns", "qwenkit-ws")  # as far as its own CronJob comes
    assert eventually(lambda: not sandbox.kubectl(*rights))


@pytest.mark.usefixtures("gone")
def test_an_api_server_that_is_busy_is_asked_again(
    settings: Settings, sandbox: RealSandbox
) -> None:
    busy = parse({"where": "api", "what": "429", "times": 4}).model_dump()
    call(sandbox.root, "POST", busy)
    made = create(settings, NAME, ["", ""], 1)
    assert len(made.workshop.participants) == 2
    assert call(sandbox.root, "GET")[-1]["hits"] == 4


@pytest.mark.usefixtures("gone")
def test_a_participant_starts_again_at_a_chapter(settings: Settings) -> None:
    create(settings, NAME, ["李明", ""], 1)
    assert manage.reset(settings, NAME, "李明", "04").chapter == "04"
    theirs = settings.model_copy(update={"namespace": "ws-p01", "run": "p01"})
    with closing(Cluster.connect(theirs)) as cluster:
        assert cluster.get("ksvc", "qwen")["metadata"]["labels"]["qwenkit.dev/run"] == "p01"
        manage.reset(settings, NAME, "p01", "02")
        assert cluster.find("ksvc", "qwen") is None
        assert cluster.find("pvc", "ws-p01")  # an administrator's: it stays


def test_nothing_of_somebody_else_is_touched(settings: Settings, sandbox: RealSandbox) -> None:
    sandbox.kubectl("create", "namespace", "ws-p01")
    try:
        with pytest.raises(Conflict):
            create(settings, NAME, ["", ""], 1)
        assert not delete(settings, NAME).leaks.found
        assert "ws-p01" in sandbox.kubectl("get", "ns", "-o", "name")
    finally:
        sandbox.kubectl("delete", "namespace", "ws-p01")


def test_a_dry_run_changes_nothing(settings: Settings, sandbox: RealSandbox) -> None:
    before = sandbox.kubectl("get", "ns", "-o", "name")
    planned = create(settings, NAME, [""] * 30, 9, dry_run=True)
    assert planned.dry_run
    assert len(planned.workshop.participants) == 30
    assert sandbox.kubectl("get", "ns", "-o", "name") == before


@pytest.mark.parametrize(
    ("name", "people", "slots", "changed"),
    [
        ("Ws", 1, 1, {}),
        ("w" * 31, 1, 1, {}),
        ("ws", 0, 1, {}),
        ("ws", 501, 1, {}),
        ("ws", 1, -1, {}),
        ("ws", 1, 1, {"storage": "pvc"}),
    ],
)
def test_what_cannot_be_is_refused(
    settings: Settings, name: str, people: int, slots: int, changed: dict
) -> None:
    with pytest.raises(InvalidValue):
        create(settings.model_copy(update=changed), WorkshopName(name), [""] * people, slots)


def test_without_weights_there_is_no_workshop(settings: Settings) -> None:
    with pytest.raises(NotFound, match="holds no model"):
        create(settings.model_copy(update={"prefix": "empty"}), NAME, [""], 1)


def killed_after(seconds: float, *words: str) -> bool:
    """Start a command and kill it; return whether it was still running."""
    command = [sys.executable, "-m", "qwenkit", "workshop", *words, "--name", "ws"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            return True
    return False


def until_killed(times: int, *words: str) -> None:
    """Kill a command at so many random moments of its work."""
    chance, longest = random.Random(7), 3.0
    for _ in range(times):
        if not killed_after(chance.uniform(0.6, longest), *words):
            longest *= 0.9


@pytest.mark.usefixtures("gone")
@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.long)])
def test_killed_at_any_moment_and_run_again_it_ends_in_the_same_state(
    settings: Settings, sandbox: RealSandbox, tmp_path: Path, times: int
) -> None:
    people = [""] * (4 if times < 10 else 20)
    words = ("create", "--participants", str(len(people)), "--output", str(tmp_path / "sheets"))
    create(settings, NAME, people, 1)
    whole = shape(sandbox)
    until_killed(times, "delete")
    assert not delete(settings, NAME).leaks.found
    until_killed(times, *words)
    create(settings, NAME, people, 1)
    assert shape(sandbox) == whole


@pytest.mark.long
@pytest.mark.usefixtures("gone")
def test_a_hundred_participants(settings: Settings) -> None:
    began = time.monotonic()
    made = create(settings, NAME, [""] * 100, 9)
    assert len(made.workshop.participants) == 100
    print(f"100 participants in {time.monotonic() - began:.1f} s")
    assert delete(settings, NAME).error is None
    assert not audit(connect(settings, NAME), NAME).found


def test_a_namespace_that_somebody_deleted_is_made_again_with_its_weights(
    sandbox: RealSandbox, settings: Settings, gone: None
) -> None:
    create(settings, NAME, [""], 1)
    with closing(Cluster.connect(settings.model_copy(update={"namespace": "ws-p01"}))) as cluster:
        wait_bound(cluster, "ws-p01", timeout_s=10)
        sandbox.kubectl("delete", "namespace", "ws-p01")
        eventually(lambda: cluster.get("pv", "ws-p01")["status"]["phase"] == "Released")
        assert manage.status(settings, NAME).missing == ("p01",)
        create(settings, NAME, [""], 1)
        wait_bound(cluster, "ws-p01", timeout_s=10)
