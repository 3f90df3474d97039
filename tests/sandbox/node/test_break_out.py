"""What an applied YAML cannot do: run code, read this machine's files, or send anything away."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_world import oss_volume
from real_sandbox import RealSandbox, eventually, obj

from qwenkit.errors import InvalidValue, NotReady
from qwenkit.sandbox import process, state_files
from qwenkit.sandbox.kubelet import probes, volumes
from qwenkit.sandbox.kubelet.child import Programs
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE
from qwenkit.sandbox.kubelet.own import load, upload

HUB = "modelscope:qwen/Qwen-7B-Chat-Int8"
TARGET = f"oss://{state_files.BUCKET}/x"
Object = dict[str, Any]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSandbox]:
    root = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=100))
    running = RealSandbox(root)
    folder = root / "oss" / state_files.BUCKET / "mounted" / "deep"
    folder.mkdir(parents=True)
    (folder / "kept.txt").write_text("from the volume")
    keys = dict(zip(("akId", "akSecret"), state_files.read_keys(root), strict=True))
    source = oss_volume(
        {"bucket": state_files.BUCKET, "url": running.state.oss, "path": "/mounted"}
    )
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "1Gi"}
    wanted = {"resources": {"requests": size}, "volumeName": "v"}
    running.apply(
        obj("Secret", "oss-secret", type="Opaque", stringData=keys),
        obj("PersistentVolume", "v", spec={**shared, "capacity": size, **source}),
        obj("PersistentVolumeClaim", "v", spec=shared | wanted),
    )
    yield running
    process.down(root)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Run a server that is not the sandbox's; return its address and who asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            asked.append(self.rfile.readline(1000).decode("latin-1"))
            self.close_connection = True

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def variables(sandbox: RealSandbox) -> dict[str, str]:
    env = process.environment(sandbox.root)
    return {name: value for name, value in env.items() if name != "KUBECONFIG"}


def pod(
    name: str,
    args: list[str],
    env: dict[str, str],
    command: tuple[str, ...] = ("qwenkit", "upload"),
    image: str = TRANSFER_IMAGE,
) -> Object:
    container = {
        "name": "main",
        "image": image,
        "command": list(command),
        "args": args,
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "volumeMounts": [{"name": "v", "mountPath": "/model", "readOnly": True}],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "v"}}
    spec = {"containers": [container], "volumes": [volume], "restartPolicy": "Never"}
    return obj("Pod", name, spec=spec)


def ended(sandbox: RealSandbox, prefix: str) -> dict[str, Object]:
    """Wait until the pods of these names have ended; return how, with the end of their logs."""

    def found() -> dict[str, Object]:
        pods = json.loads(sandbox.kubectl("get", "pods", "-o", "json"))["items"]
        ours = {
            one["metadata"]["name"]: one["status"].get("containerStatuses", [{}])[0]
            for one in pods
            if one["metadata"]["name"].startswith(prefix)
        }
        states = {name: one.get("state", {}).get("terminated", {}) for name, one in ours.items()}
        return states if all(states.values()) else {}

    return eventually(found)


def uploaded(sandbox: RealSandbox, prefix: str) -> dict[str, bytes]:
    folder = sandbox.root / "oss" / state_files.BUCKET / prefix
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_no_variable_runs_code_or_sends_anything_away(
    sandbox: RealSandbox, elsewhere: tuple[str, list[str]], tmp_path: Path
) -> None:
    evil, asked = elsewhere
    mark = tmp_path / "ran"
    for name in ("sitecustomize", "usercustomize", "qwenkit", "json", "oss2"):
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')")
    hostile = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "json.py"),
        "PYTHONHOME": str(tmp_path),
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": str(tmp_path),
        "PYTHONBREAKPOINT": "sitecustomize",
        "PYTHONWARNINGS": "error",
        "LD_PRELOAD": str(tmp_path / "json.py"),
        "LD_LIBRARY_PATH": str(tmp_path),
        "LD_AUDIT": str(tmp_path / "json.py"),
        "DYLD_INSERT_LIBRARIES": str(tmp_path / "json.py"),
        "PATH": str(tmp_path),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "BASH_ENV": str(tmp_path / "json.py"),
        "HTTP_PROXY": evil,
        "http_proxy": evil,
        "ALL_PROXY": evil,
        "NO_PROXY": "",
        "REQUESTS_CA_BUNDLE": "/etc/passwd",
        "NETRC": "/etc/passwd",
        "QWENKIT_PARAMETERS": json.dumps({"model_source": ["/etc", "--set"]}),
        "QWENKIT_MODEL_SOURCE": "/etc",
        "QWENKIT_CONTEXT": "kind-other",
        "KUBECONFIG": "/etc/passwd",
    }
    sandbox.apply(pod("env", [HUB, f"{TARGET}-env", "--json"], variables(sandbox) | hostile))
    assert ended(sandbox, "env")["env"]["exitCode"] == 0
    assert "config.json" in uploaded(sandbox, "x-env")
    assert not asked
    assert not mark.exists()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".py"] * 5


def test_a_folder_of_a_volume_is_a_source(sandbox: RealSandbox) -> None:
    sandbox.apply(pod("volume", ["/model/deep/", f"{TARGET}-volume"], variables(sandbox)))
    assert ended(sandbox, "volume")["volume"]["exitCode"] == 0
    assert uploaded(sandbox, "x-volume")["kept.txt"] == b"from the volume"


SECRET = "the file of the person who runs the sandbox"


def test_nothing_of_this_machine_is_a_source(
    sandbox: RealSandbox, elsewhere: tuple[str, list[str]], tmp_path: Path
) -> None:
    evil, asked = elsewhere
    (tmp_path / "secret").write_text(SECRET)
    link = sandbox.root / "oss" / state_files.BUCKET / "mounted" / "link"
    link.symlink_to(tmp_path)
    env, target = variables(sandbox), f"{TARGET}-host"
    port = evil.rpartition(":")[2]
    sources = [
        *(str(tmp_path), f"/model/../../../../{tmp_path}", "/model/link", "/model/..", "/"),
        *(f"file:{tmp_path}", f"file://{tmp_path}", ".", "..", "~", "/modelx", "/model/none"),
    ]
    cases = [([source, target], env) for source in sources]
    cases += [
        ([HUB, target, *more], env)
        for more in (
            ["--params", "/etc/passwd"],
            ["-p", "/etc/passwd"],
            ["--set", f"model_source={tmp_path}"],
            ["--set=oss_endpoint=http://evil.example"],
            ["--context", "kind-other"],
            ["--in-cluster"],
            ["--", str(tmp_path)],
            [str(tmp_path)],
            ["--includ=*"],
        )
    ]
    for name in ("OSS_ENDPOINT", "QWENKIT_OSS_ENDPOINT", "QWENKIT_MODELSCOPE_ENDPOINT"):
        addresses = (evil, f"http://127.1:{port}", f"localhost:{port}")
        cases += [([HUB, target], env | {name: address}) for address in addresses]
    named = {f"host-{number}": case for number, case in enumerate(cases)}
    sandbox.apply(*(pod(name, *case) for name, case in named.items()))
    for name, how in ended(sandbox, "host-").items():
        assert how["exitCode"] == 2, named[name]
        assert json.loads(how["message"])["error"] == "InvalidValue", named[name]
    assert not asked
    for path in (sandbox.root / "oss").rglob("*"):
        assert not (
            path.is_file() and not path.is_symlink() and SECRET in path.read_text("latin-1")
        )
    link.unlink()


def test_other_images_and_shells_run_nothing(sandbox: RealSandbox, tmp_path: Path) -> None:
    mark, env = tmp_path / "ran", variables(sandbox)
    touch = f"touch {mark}"
    shells = [
        ("sh", "-c", touch),
        ("/bin/sh", "-c", f"qwenkit upload {HUB} {TARGET}-shell; {touch}"),
        ("sh", "-c", f"exec qwenkit upload {HUB} {TARGET}-shell"),
        ("env", "qwenkit", "upload"),
        (sys.executable, "-c", f"open({str(mark)!r}, 'w')"),
        ("python3", "-m", "qwenkit", "upload"),
        ("qwenkit", "sandbox", "oss", "--root", str(tmp_path / "oss"), "--port", "1"),
        ("qwenkit", "run"),
        (str(shutil.which("touch")), str(mark)),
    ]
    pods = [pod(f"shell-{number}", [], env, words) for number, words in enumerate(shells)]
    images = [
        *("localhost/qwenkit:latest", f"{TRANSFER_IMAGE}0", f"docker.io/{TRANSFER_IMAGE}"),
        f"{TRANSFER_IMAGE}@sha256:{'0' * 64}",
    ]
    arguments = [HUB, f"{TARGET}-shell"]
    pods += [
        pod(f"image-{number}", arguments, env, image=image) for number, image in enumerate(images)
    ]
    sandbox.apply(*pods, pod("last", [HUB, f"{TARGET}-last"], env))
    assert ended(sandbox, "last")["last"]["exitCode"] == 0
    assert not mark.exists()
    assert not uploaded(sandbox, "x-shell")
    assert list(tmp_path.iterdir()) == []


def test_a_probe_asks_the_pod_alone(elsewhere: tuple[str, list[str]]) -> None:
    evil, asked = elsewhere
    path = f"@{evil.removeprefix('http://')}/"
    probe = {"httpGet": {"path": path, "port": 8080, "host": evil}}
    assert asyncio.run(probes.check(probe, {}, lambda _: "http://127.0.0.1:1", "10.0.0.1"))
    assert not asked


OWN = "http://127.0.0.1:4321"


@pytest.mark.parametrize("kind", ["OSS_ENDPOINT", "QWENKIT_MODELSCOPE_ENDPOINT"])
@pytest.mark.parametrize(
    "given_",
    [
        "http://127.0.0.1.evil:4321",
        "http://localhost.evil:4321",
        "http://localhost@evil:4321",
        "http://127.0.0.1:4321@evil",
        "http://evil#@127.0.0.1:4321",
        "http://evil\\@127.0.0.1:4321",
        "http://evil/?127.0.0.1:4321",
        "http://user:word@127.0.0.1:4321",
        "http://127.0.0.1:4321/path",
        "http://127.0.0.1:4321\nhttp://evil",
        "http://127.0.0.1:43210",
        "http://127.0.0.1:４３２１",
        "http://127.0.0.1",
        "https://127.0.0.1:4321",
        "http://127.1:4321",
        "http://2130706433:4321",
        "http://0x7f.1:4321",
        "http://0.0.0.0:4321",
        "http://[::1]:4321",
        "http://[::ffff:127.0.0.1]:4321",
        "http://[::1%25eth0]:4321",
        "http://[fe80::1]:4321",
        "file:///etc/passwd",
        "//127.0.0.1:4321",
        "http:127.0.0.1:4321",
        "gopher://127.0.0.1:4321",
        "oss-cn-hangzhou.aliyuncs.com",
        "https://www.modelscope.cn",
        "evil.example",
    ],
)
def test_no_other_server_is_reached(tmp_path: Path, kind: str, given_: str) -> None:
    programs = Programs(tmp_path)
    programs.oss = programs.hub = OWN
    with pytest.raises(InvalidValue, match="reaches only") as refused:
        dict(upload._environment({kind: given_}, HUB, programs))
    assert refused.value.name == kind


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1.evil", "localhost@evil", "http://127.0.0.1@evil", "http://evil#@127.0.0.1"),
        *("http://u:p@127.0.0.1:1", "http://evil\\@127.0.0.1", "http://127.0.0.1:99999"),
        *("http://127.0.0.1:x", "http://[bad", "file:///etc", "http://127.0.0.1/path?"),
        *("http://127.1", "http://2130706433", "http://[::ffff:7f00:1]", "http://0.0.0.0"),
    ],
)
def test_no_volume_is_elsewhere(url: str) -> None:
    with pytest.raises(NotReady, match="reaches only its own OSS server"):
        volumes._endpoint("v", "ossfs", {"bucket": "b", "url": url})


def test_only_listed_variables_and_own_addresses_are_passed(tmp_path: Path) -> None:
    programs = Programs(tmp_path)
    programs.oss, programs.hub = OWN, "http://127.0.0.1:4322"
    env = {"OSS_ENDPOINT": "localhost:4321/", "QWENKIT_MODELSCOPE_ENDPOINT": programs.hub}
    more = {"HF_ENDPOINT": "http://evil", "OSS_REGION": "cn-hangzhou\n", "LANG": "x"}
    assert dict(upload._environment(env | more, HUB, programs)) == {
        "QWENKIT_OSS_ENDPOINT": OWN,
        "QWENKIT_MODELSCOPE_ENDPOINT": programs.hub,
        "OSS_REGION": "cn-hangzhou",
    }


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "x" * 5000, "钥匙"])
def test_a_variable_that_is_no_key_is_refused_and_not_shown(tmp_path: Path, value: str) -> None:
    programs = Programs(tmp_path)
    programs.oss = programs.hub = OWN
    with pytest.raises(InvalidValue) as refused:
        dict(upload._environment({"OSS_ACCESS_KEY_SECRET": value}, HUB, programs))
    assert value not in json.dumps(refused.value.to_dict(), ensure_ascii=False)


ADDRESS = "http://qwen.default.svc.cluster.local"


def asked_of_a_worker(tmp_path: Path, args: list[str]) -> list[str]:
    programs = Programs(tmp_path)
    programs.gateway = OWN
    hosts = {("default", "qwen"): "qwen.default.example.com"}
    env = {"JOB_COMPLETION_INDEX": "1", "PYTHONPATH": "/", "HTTP_PROXY": "http://evil"}
    found = load.load_worker(args, env, programs, lambda *one: hosts.get(one, ""))
    assert found.env == {"JOB_COMPLETION_INDEX": "1"}
    return list(found.words)


def test_a_load_goes_to_a_service_of_the_sandbox(tmp_path: Path) -> None:
    host = "qwen.default.example.com"
    expected = ["load-worker", OWN, "eJyrrg==", "--host", host]
    assert asked_of_a_worker(tmp_path, [ADDRESS, "eJyrrg=="]) == expected


@pytest.mark.parametrize(
    "args",
    [
        *([], [ADDRESS], ["eJyrrg=="], [ADDRESS, *["eJ"] * 17], [ADDRESS, "e" * 70_000]),
        *([ADDRESS, "--host"], [ADDRESS, "eJ", "-h"], [ADDRESS, "a b"], [ADDRESS, ""]),
        *([ADDRESS + "/", "eJ"], [ADDRESS + ":80", "eJ"], ["http://evil.example", "eJ"]),
        *([OWN, "eJ"], ["http://other.default.svc.cluster.local", "eJ"], ["--json", ADDRESS]),
        ["http://evil@qwen.default.svc.cluster.local", "eJ"],
    ],
)
def test_a_load_goes_nowhere_else(tmp_path: Path, args: list[str]) -> None:
    with pytest.raises(InvalidValue):
        asked_of_a_worker(tmp_path, args)


words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["--json", "--include", "--set", "-p", HUB, TARGET, "/model", "--", "@f"]),
)


@given(st.lists(words, max_size=6))
def test_any_arguments_are_read_or_refused(args: list[str]) -> None:
    try:
        source, target, *options = upload._arguments(args)
    except InvalidValue:
        return
    assert source.startswith(("/", "modelscope:", "hf:"))
    assert target.startswith(("oss://", "/"))
    allowed = ("--replace", "--versioned", "--json", "--progress", "--include=", "--exclude=")
    assert all(option.startswith(allowed) for option in options)
