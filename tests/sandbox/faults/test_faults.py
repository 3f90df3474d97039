"""Faults on demand: each strikes as its catalogue says, is counted, and comes to an end."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes
import oss2
import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from transfer_world import OPTIONS, write

from qwenkit.credentials import Credentials
from qwenkit.errors import InvalidValue, NotFound, QwenkitError
from qwenkit.sandbox import process, state_files
from qwenkit.sandbox.faults.catalogue import FAULTS, FaultSpec, parse
from qwenkit.sandbox.faults.client import call
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.integrity import verify
from qwenkit.weights.oss.bucket import open_bucket
from qwenkit.weights.report import UploadReport
from qwenkit.weights.transfer import upload

DATA = random.Random(3).randbytes(5 * OPTIONS.part_size + 7)
# What an upload cannot get over by itself, and a word of what it says then.
FINAL = {
    ("oss", "missing-crc"): "no CRC-64",
    ("oss", "clock-skew"): "behind the server's",
    ("oss", "access-denied"): "AccessDenied",
    ("oss", "public-endpoint"): "oss_cname=true",
    ("oss", "expired-token"): "get new temporary keys",
}
LASTING = [
    (where, what)
    for where in ("oss", "hub")
    for what, kind in FAULTS[where].items()
    if kind.lasting
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("faults") / "root"
    process.up(path, state_files.SandboxOptions(time_scale=50))
    yield path
    process.down(path)


@pytest.fixture(autouse=True)
def _cleared(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "root" in request.fixturenames:
        call(request.getfixturevalue("root"), "DELETE")


@pytest.fixture
def bucket(root: Path) -> Iterator[oss2.Bucket]:
    env = process.environment(root)
    keys = Credentials(
        access_key_id=env["OSS_ACCESS_KEY_ID"], access_key_secret=env["OSS_ACCESS_KEY_SECRET"]
    )
    made = open_bucket(env["OSS_ENDPOINT"], env["OSS_BUCKET"], keys, region=env["OSS_REGION"])
    yield made
    made.session.session.close()


def order(root: Path, where: str, what: str, **more: Any) -> dict[str, Any]:
    taken: dict[str, Any] = call(
        root, "POST", parse({"where": where, "what": what} | more).model_dump()
    )
    return taken


def hits(root: Path) -> int:
    found: int = call(root, "GET")[-1]["hits"]
    return found


def until_now(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the deadline passed"
        time.sleep(0.02)


# Orders


@given(
    st.dictionaries(
        st.sampled_from([*FaultSpec.model_fields, "other"]),
        st.none() | st.integers() | st.floats() | st.text() | st.sampled_from([*FAULTS, "lost"]),
    )
)
def test_an_order_is_checked_or_refused(raw: dict[str, Any]) -> None:
    try:
        made = parse(raw)
    except InvalidValue:
        return
    assert made.what in FAULTS[made.where]
    assert min(made.bounds) > 0


def test_a_fault_strikes_once_unless_more_is_said() -> None:
    assert parse({"where": "oss", "what": "reset"}).bounds[0] == 1
    assert parse({"where": "oss", "what": "reset", "times": 3}).bounds[0] == 3
    assert parse({"where": "oss", "what": "reset", "for_s": 5}).bounds == (float("inf"), 5)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"where": "oss", "what": "bogus"}, "is none of reset, "),
        ({"where": "oss", "what": "reset", "on": "Nope"}, "'Nope' is not valid"),
        ({"where": "api", "what": "429", "on": "FETCH"}, "'FETCH' is not valid"),
        ({"where": "api", "what": "restart", "times": 2}, "happens at once"),
        ({"where": "oss", "what": "reset", "seconds": 2}, "takes no --seconds"),
        ({"where": "gpu", "what": "lost", "times": 2}, "a state that lasts"),
        ({"where": "gpu", "what": "lost", "count": 4}, "the node has 3 GPUs"),
        ({"where": "pod", "what": "oom", "name": "x"}, "no pod x… runs in namespace default"),
        ({"where": "weights", "what": "zero-tensor", "prefix": "../.."}, "no safetensors file"),
    ],
)
def test_wrong_orders_are_named_and_not_taken(root: Path, wanted: Any, said: str) -> None:
    with pytest.raises((InvalidValue, NotFound)) as refused:
        order(root, **wanted)
    assert said in str(refused.value)
    assert call(root, "GET") == []


def test_commands_order_list_and_clear(root: Path) -> None:
    listed = json.loads(command("list", "--json").stdout)
    assert set(listed) == {f"{where} {what}" for where in FAULTS for what in FAULTS[where]}
    taken = json.loads(
        fault(root, "oss", "503", "--on", "ListParts", "--for", "60", "--json").stdout
    )
    assert (taken["met"], taken["active"], taken["left_s"]) == ("ListParts", True, 60)
    assert "oss 503: ListParts, hit 0, " in fault(root, "status").stdout
    assert "cleared: 1 active" in fault(root, "clear").stdout
    wrong = fault(root, "oss", "reset", "--on", "Nope")
    assert (wrong.returncode, "on: 'Nope' is not valid" in wrong.stderr) == (2, True)


def fault(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return command(*words, "--root", str(root))


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "qwenkit", "sandbox", "fault", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def test_orders_need_the_token_of_a_private_file(root: Path) -> None:
    path = root / state_files.FAULTS_ADDRESS
    assert path.stat().st_mode & 0o077 == 0
    url = json.loads(path.read_text())["url"]
    for headers in ({}, {"Authorization": "Bearer x"}):
        assert requests.delete(f"{url}/faults", headers=headers).status_code == 401
    token = json.loads(path.read_text())["token"]
    headers = {"Authorization": f"Bearer {token}"}
    for body in (b"", b"[]", b"\xff", b'{"where": 1}'):
        assert requests.post(f"{url}/faults", body, headers=headers).status_code == 400


# Transfers


def send(root: Path, bucket: oss2.Bucket, folder: Path, where: str, prefix: str) -> UploadReport:
    hub = process.environment(root)["QWENKIT_MODELSCOPE_ENDPOINT"]
    source: Any = str(write(folder / "model", {"w.bin": DATA, "config.json": b"{}"}))
    if where == "hub":
        model = "modelscope:qwen/Qwen-7B-Chat-Int8"
        source = open_source(model, modelscope_endpoint=hub, hf_endpoint=hub)
    return upload(source, bucket, prefix, run="t", state_dir=folder / "state", options=OPTIONS)


@pytest.mark.parametrize(("where", "what"), LASTING)
def test_an_upload_gets_over_it_or_says_why(
    root: Path, bucket: oss2.Bucket, tmp_path: Path, where: str, what: str
) -> None:
    more = {"seconds": 0.2} if what == "stall" else {}
    order(root, where, what, **more)
    prefix = f"{where}-{what}"
    if said := FINAL.get((where, what)):
        with pytest.raises(QwenkitError, match=said):
            send(root, bucket, tmp_path, where, prefix)
    else:
        send(root, bucket, tmp_path, where, prefix)
    assert hits(root) == 1
    send(root, bucket, tmp_path, where, prefix)
    assert verify(bucket, prefix).problems == ()
    assert bucket.list_multipart_uploads(prefix=prefix).upload_list == []


def test_a_restart_is_an_outage_and_then_the_same_address(
    root: Path, bucket: oss2.Bucket, tmp_path: Path
) -> None:
    begun = time.monotonic()
    met = order(root, "oss", "restart", seconds=1)["met"]
    assert met == process.environment(root)["OSS_ENDPOINT"]
    until_now(lambda: _answers(met))
    assert time.monotonic() - begun >= 1
    send(root, bucket, tmp_path, "oss", "after-restart")


def _answers(url: str) -> bool:
    try:
        return requests.get(url).status_code > 0
    except requests.ConnectionError:
        return False


@pytest.mark.parametrize("what", FAULTS["weights"])
def test_damaged_weights_are_named_and_mended(
    root: Path, bucket: oss2.Bucket, tmp_path: Path, what: str
) -> None:
    send(root, bucket, tmp_path, "hub", "w")
    met = order(root, "weights", what, prefix="w")["met"]
    assert [f"w/{problem.file}" for problem in verify(bucket, "w").problems] == [met]
    send(root, bucket, tmp_path, "hub", "w")
    assert verify(bucket, "w").problems == ()


def test_damage_without_weights_is_refused(root: Path) -> None:
    with pytest.raises(NotFound, match="no safetensors file under nothing"):
        order(root, "weights", "zero-tensor", prefix="nothing")


# The Kubernetes API


@pytest.fixture
def api(root: Path) -> Iterator[kubernetes.client.CoreV1Api]:
    made = kubernetes.config.new_client_from_config(str(root / "kubeconfig"))
    made.configuration.retries = False
    with kubernetes.client.ApiClient(made.configuration) as api_client:
        yield kubernetes.client.CoreV1Api(api_client)


@pytest.mark.parametrize("what", ["429", "500", "503"])
def test_the_api_refuses_as_ordered(
    root: Path, api: kubernetes.client.CoreV1Api, what: str
) -> None:
    order(root, "api", what, times=2)
    for _ in range(2):
        with pytest.raises(kubernetes.client.ApiException) as refused:
            api.list_namespace()
        assert refused.value.status == int(what)
        assert json.loads(refused.value.body)["kind"] == "Status"
    assert api.list_namespace().items
    assert hits(root) == 2


def test_a_conflict_is_for_writes_alone(root: Path, api: kubernetes.client.CoreV1Api) -> None:
    order(root, "api", "409")
    assert api.list_namespace().items
    change = {"metadata": {"labels": {"a": "b"}}}
    with pytest.raises(kubernetes.client.ApiException) as refused:
        api.patch_namespace("default", change)
    assert refused.value.status == 409
    message = 'Operation cannot be fulfilled on namespaces "default": the object has been modified'
    assert message in json.loads(refused.value.body)["message"]
    assert api.patch_namespace("default", change).metadata.labels["a"] == "b"


def test_watches_break_off(root: Path, api: kubernetes.client.CoreV1Api) -> None:
    watch = api.list_namespace(watch=True, _preload_content=False)
    lines = watch.stream(1)
    next(lines)
    assert order(root, "api", "drop-watches")["met"] == "1 watch"
    with pytest.raises(urllib3.exceptions.ProtocolError):
        for _ in lines:
            pass
    assert api.list_namespace().items


def test_the_api_comes_back_at_its_address(root: Path, api: kubernetes.client.CoreV1Api) -> None:
    assert api.list_namespace().items  # a connection that is kept, and breaks
    begun = time.monotonic()
    order(root, "api", "restart", seconds=1)
    order(root, "api", "restart", seconds=1)  # it is down already
    until_now(lambda: _answers_pods(api))
    assert time.monotonic() - begun >= 1


def _answers_pods(api: kubernetes.client.CoreV1Api) -> bool:
    try:
        return bool(api.list_namespace().items)
    except Exception:
        return False


def test_lost_gpus_leave_the_capacity(root: Path, api: kubernetes.client.CoreV1Api) -> None:
    def gpus() -> tuple[str, str]:
        status = api.list_node().items[0].status
        return status.capacity["nvidia.com/gpu"], status.allocatable["nvidia.com/gpu"]

    order(root, "gpu", "lost", count=2, for_s=0.5)
    order(root, "gpu", "lost", count=3, for_s=60)
    assert gpus() == ("3", "0")
    call(root, "DELETE")
    assert gpus() == ("3", "3")
    order(root, "gpu", "lost", count=1, for_s=0.1)
    until_now(lambda: gpus() == ("3", "3"))


def test_a_fault_outlives_no_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "root"
    first = process.up(path)
    try:
        order(path, "gpu", "lost", count=3, for_s=600)
        until_now(lambda: '"nvidia.com/gpu":"0"' in _kept(path))
        os.kill(first.pid, 9)
        until_now(lambda: state_files.find(path) is None)
        process.up(path)
        assert call(path, "GET") == []
        until_now(lambda: '"nvidia.com/gpu":"0"' not in _kept(path))
    finally:
        process.down(path)


def _kept(path: Path) -> str:
    return (path / "cluster.json").read_text().replace(" ", "")
