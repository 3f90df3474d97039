"""A vLLM of this machine in the sandbox's pods: its start, its log, its status, its end.

The vLLM is a stand-in with the same command line; ``tools/check_real_vllm.py`` takes a real one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oss2
import pytest
import requests
from node_world import oss_volume
from places import SUPPORT
from real_sandbox import RealSandbox, alive, eventually, obj

from qwenkit.errors import SandboxError, SettingsError
from qwenkit.sandbox import process, state_files
from qwenkit.sandbox.kubelet import child, real_vllm, vllm_flags

STAND_IN = SUPPORT / "vllm_stand_in.py"
SECRETS = {
    "OSS_ACCESS_KEY_SECRET": "the-oss-secret",
    "HF_TOKEN": "the-hub-token",
    "OPENAI_API_KEY": "the-openai-key",
    "https_proxy": "http://the-proxy.invalid:3128",
}
PAGE = (
    "exec python3 -m vllm.entrypoints.openai.api_server --port 8080 --trust-remote-code"
    " --served-model-name qwen --model /m --gpu-memory-utilization 0.95 --quantization gptq"
    " --max-model-len=6144 --dtype half"
)
Object = dict[str, Any]


class Running(RealSandbox):
    def volume(self, name: str, behaviour: Object) -> list[Object]:
        """Put a model into the bucket; return a volume around it."""
        folder = self.root / "oss" / state_files.BUCKET / name
        (folder / "deep").mkdir(parents=True)
        (folder / "behaviour.json").write_text(json.dumps(behaviour))
        (folder / "deep" / "权重.bin").write_bytes(bytes(range(256)))
        keys = dict(zip(("akId", "akSecret"), state_files.read_keys(self.root), strict=True))
        data = {key: base64.b64encode(text.encode()).decode() for key, text in keys.items()}
        source = oss_volume(
            {"bucket": state_files.BUCKET, "url": self.state.oss, "path": f"/{name}"}
        )
        shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
        size = {"storage": "20Gi"}
        wanted = {"resources": {"requests": size}, "volumeName": name}
        return [
            obj("Secret", "oss-secret", type="Opaque", data=data),
            obj("PersistentVolume", name, spec={**shared, "capacity": size, **source}),
            obj("PersistentVolumeClaim", name, spec=shared | wanted),
        ]

    def pod(self, name: str, behaviour: Object, *, script: str = PAGE) -> None:
        self.apply(*self.volume(name, behaviour), obj("Pod", name, spec=spec(name, script)))

    def log(self, name: str) -> str:
        return self.run("logs", name).stdout

    def facts(self, name: str) -> Object:
        """Wait until the program of a pod runs; return what it was given."""

        def first() -> str | None:
            return next((line for line in self.log(name).splitlines() if line[0] == "{"), None)

        return json.loads(eventually(first))

    def address(self, name: str) -> str:
        """Wait until the program of a pod listens; return where."""
        arguments = self.facts(name)["argv"]
        url = f"http://127.0.0.1:{arguments[arguments.index('--port') + 1]}"
        eventually(lambda: answers(url))
        return url


def spec(name: str, script: str) -> Object:
    container = {
        "name": "vllm",
        "image": "kube-ai-registry.cn-shanghai.cr.aliyuncs.com/kube-ai/vllm:0.4.1",
        "command": ["sh", "-c", script],
        "ports": [{"containerPort": 8080}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "volumeMounts": [{"name": "model", "mountPath": "/m", "readOnly": True}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    claim = {"claimName": name, "readOnly": True}
    return {
        "containers": [container],
        "volumes": [{"name": "model", "persistentVolumeClaim": claim}],
    }


def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    return made


def answers(url: str) -> bool:
    with session() as http:
        try:
            return http.get(f"{url}/metrics", timeout=60).ok
        except requests.ConnectionError:
            return False


def stand_in(folder: Path) -> Path:
    program = folder / "vllm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{STAND_IN}" "$@"\n')
    program.chmod(0o755)
    return program


def up(root: Path) -> Running:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QWENKIT_VLLM", str(stand_in(root.parent)))
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        options = state_files.SandboxOptions(engine="vllm", gpus=8, time_scale=100)
        process.up(root, options)
    return Running(root)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = up(tmp_path_factory.mktemp("vllm") / "root")
    yield running
    process.down(running.root)


@pytest.fixture
def one_of_its_own(tmp_path: Path) -> Iterator[Running]:
    yield up(tmp_path / "root")
    process.down(tmp_path / "root")


def test_the_state_says_which_vllm_serves(sandbox: Running) -> None:
    options = state_files.running(sandbox.root).options
    assert (options.engine, options.vllm_version) == ("vllm", "9.9.9+stand.in")
    command = [sys.executable, "-m", "qwenkit", "sandbox", "status", "--root", sandbox.root]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert f"real vLLM 9.9.9+stand.in of {options.vllm} on this CPU" in shown
    assert "modelled" not in shown


def test_it_gets_the_mounted_files_and_the_translated_flags(sandbox: Running) -> None:
    sandbox.pod("files", {})
    facts = sandbox.facts("files")
    assert set(facts["files"]) == {"behaviour.json", "deep/权重.bin"}
    assert facts["files"]["deep/权重.bin"].startswith("40aff2e9d2d8922e")
    folder, port = facts["argv"][1], facts["argv"][5]
    assert facts["argv"] == [
        *("serve", folder, "--host", "127.0.0.1", "--port", port),
        *("--dtype", "float32", "--load-format", "safetensors", "--enforce-eager"),
        *("--served-model-name", "qwen", "--max-model-len", "6144"),
    ]
    said = sandbox.log("files")
    assert "sandbox: real vLLM 9.9.9+stand.in on this CPU: times are this machine's\n" in said
    assert "sandbox: --quantization gptq left out: the sandbox's model is not quantised\n" in said
    assert "\nloading 100%\n" in said

    sandbox.kubectl("delete", "pod", "files")
    assert not Path(folder).parent.exists()


def test_it_sees_no_secret_and_no_network(sandbox: Running) -> None:
    sandbox.pod("environment", {})
    env = sandbox.facts("environment")["env"]
    for name, value in SECRETS.items():
        assert name not in env
        assert value not in env.values()
    assert not [name for name in env if re.match("(OSS|QWENKIT|KUBE)", name)]
    assert env["HF_HUB_OFFLINE"] == env["VLLM_NO_USAGE_STATS"] == env["DO_NOT_TRACK"] == "1"
    assert env["HOME"].startswith(str(sandbox.root))
    sandbox.kubectl("delete", "pod", "environment")


def test_an_api_key_works_and_is_shown_nowhere(sandbox: Running) -> None:
    sandbox.pod("key", {}, script=f"{PAGE} --api-key the-key")
    url = sandbox.address("key")
    assert not [word for word in sandbox.facts("key")["argv"] if "key" in word]
    ours = [line for line in sandbox.log("key").splitlines() if line.startswith("sandbox: ")]
    assert not [line for line in ours if "the-key" in line]
    with session() as http:
        assert http.post(f"{url}/v1/chat/completions", json={}).status_code == 401
        keyed = {"Authorization": "Bearer the-key"}
        assert http.post(f"{url}/v1/chat/completions", json={}, headers=keyed).ok
    sandbox.kubectl("delete", "pod", "key")


def test_its_failure_is_the_container_s(sandbox: Running) -> None:
    sandbox.pod("crash", {"exit": 3})

    def last_state() -> Object:
        pod = json.loads(sandbox.kubectl("get", "pod", "crash", "-o", "json"))
        return pod["status"]["containerStatuses"][0]["lastState"]

    ended = eventually(last_state)["terminated"]
    assert ended["exitCode"] == 3
    assert ended["message"].endswith("ValueError: the stand-in was told to fail\n")
    reasons = "jsonpath={.items[?(@.involvedObject.name=='crash')].reason}"
    eventually(lambda: "BackOff" in sandbox.kubectl("get", "events", "-o", reasons))
    sandbox.kubectl("delete", "pod", "crash")


def test_objects_that_cannot_be_files_end_the_container(sandbox: Running) -> None:
    keys = state_files.read_keys(sandbox.root)
    with session() as http:
        auth, wrapped = oss2.Auth(*keys), oss2.Session()
        wrapped.session = http
        bucket = oss2.Bucket(auth, sandbox.state.oss, state_files.BUCKET, session=wrapped)
        for key in ("hostile/name", "hostile/name/below"):
            bucket.put_object(key, b"")
    sandbox.pod("hostile", {})
    eventually(lambda: "OSError: the object 'name" in sandbox.log("hostile"))
    sandbox.kubectl("delete", "pod", "hostile")


@pytest.mark.parametrize("name", ["../above", "a/../../above", "/above", "nul\0"])
def test_no_object_is_written_outside_the_model_s_folder(tmp_path: Path, name: str) -> None:
    async def run() -> None:
        vllm = real_vllm.Vllm("/bin/true", "1.0", child.Programs(tmp_path / "programs"))
        with pytest.raises(SandboxError, match="cannot be a file"):
            async with real_vllm.serving(vllm, vllm_flags.read([]), {name: b"x"}, print):
                pass

    asyncio.run(run())
    assert [path.name for path in tmp_path.rglob("*")] == ["programs"]


def test_a_request_through_the_gateway_reaches_it(sandbox: Running) -> None:
    template = {"spec": spec("knative", PAGE)}
    service = obj("Service", "knative", "serving.knative.dev/v1", spec={"template": template})
    sandbox.apply(*sandbox.volume("knative", {}), service)
    sandbox.kubectl("wait", "ksvc/knative", "--for=condition=Ready", "--timeout=60s")
    with session() as http:
        answer = http.post(
            f"{sandbox.state.gateway}/v1/chat/completions",
            json={"model": "qwen"},
            headers={"Host": "knative.default.example.com"},
            timeout=60,
        )
    assert answer.json()["choices"][0]["message"]["content"] == "西湖位于中国浙江省杭州市"
    sandbox.kubectl("delete", "ksvc", "knative")


def test_a_pod_waits_for_its_requests(sandbox: Running, tmp_path: Path) -> None:
    sandbox.pod("drain", {})
    url, enough = sandbox.address("drain"), tmp_path / "enough"
    with session() as http:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(http.post(url, json={"until": str(enough)}, timeout=60).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        eventually(lambda: busy(url))
        sandbox.kubectl("delete", "pod", "drain", "--wait=false")
        sandbox.kubectl("get", "pod", "drain")
        enough.touch()
        asking.join(timeout=60)
    assert statuses == [200]


def busy(url: str) -> bool:
    with session() as http:
        return "} 1.0\nvllm:request_success" in http.get(f"{url}/metrics", timeout=60).text


def test_down_leaves_no_process(one_of_its_own: Running) -> None:
    one_of_its_own.pod("left", {"helper": True})
    pids = one_of_its_own.facts("left")["pids"]
    process.down(one_of_its_own.root)
    assert len(pids) == 2
    eventually(lambda: not [pid for pid in pids if alive(pid)])
    assert not one_of_its_own.root.exists()


def test_a_killed_sandbox_leaves_no_process(one_of_its_own: Running) -> None:
    one_of_its_own.pod("left", {"helper": True})
    facts = one_of_its_own.facts("left")
    os.kill(one_of_its_own.state.pid, signal.SIGKILL)
    # Waits for them, and removes their folders.
    process.down(one_of_its_own.root)
    eventually(lambda: not [pid for pid in facts["pids"] if alive(pid)])
    assert not Path(facts["argv"][1]).exists()


def test_without_a_vllm_up_says_how_to_give_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingsError, match="QWENKIT_VLLM is not set") as caught:
        process.up(tmp_path / "root", state_files.SandboxOptions(engine="vllm"))
    assert "put `vllm` on PATH" in caught.value.fix
    monkeypatch.setenv("QWENKIT_VLLM", str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="is no program"):
        real_vllm.find()
    assert not (tmp_path / "root").exists()


def test_a_program_that_is_no_vllm_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\necho 'ImportError: no torch' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("QWENKIT_VLLM", str(program))
    with pytest.raises(SandboxError, match="prints no version") as caught:
        real_vllm.find()
    assert caught.value.why == "ImportError: no torch"


def test_there_are_two_engines(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not one of modelled, vllm"):
        process.up(tmp_path / "root", state_files.SandboxOptions(engine="tgi"))
