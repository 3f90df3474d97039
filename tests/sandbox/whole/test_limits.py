"""What the sandbox does not do (its README) answers with an error that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import oss2
import pytest
import requests
from real_sandbox import RealSandbox, eventually, obj

from qwenkit.sandbox import process, state_files

POD = {"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "infinity"]}]}


class Running(RealSandbox):
    def event(self, about: str, reason: str) -> str:
        """Wait for an event and return its message."""
        select = f"involvedObject.name={about},reason={reason}"
        shown = "jsonpath={.items[*].message}"
        query = ("get", "events", f"--field-selector={select}", "-o", shown)
        return eventually(lambda: self.kubectl(*query))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("sandbox") / "root"
    process.up(root, state_files.SandboxOptions(time_scale=100))
    yield Running(root)
    process.down(root)


@pytest.fixture
def bucket(sandbox: Running) -> oss2.Bucket:
    keys = state_files.read_keys(sandbox.root)
    session = oss2.Session()
    session.session.trust_env = False
    return oss2.Bucket(oss2.Auth(*keys), sandbox.state.oss, state_files.BUCKET, session=session)


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda bucket: bucket.get_bucket_versioning(), "versioning"),
        (lambda bucket: bucket.get_bucket_lifecycle(), "lifecycle"),
        (lambda bucket: bucket.get_object_tagging("a"), "tagging"),
        (lambda bucket: bucket.put_symlink("a", "b"), "symlink"),
        (lambda bucket: bucket.append_object("a", 0, b"x"), "append"),
        (lambda bucket: bucket.get_object("a", process="image/resize,w_1"), "x-oss-process"),
        *(
            (lambda bucket, h=header: bucket.put_object("a", b"x", headers={h: "1"}), header)
            for header in (
                "x-oss-server-side-encryption",
                "x-oss-tagging",
                "x-oss-callback",
                "x-oss-traffic-limit",
                "x-oss-object-acl",
            )
        ),
    ],
)
def test_oss(bucket: oss2.Bucket, call: Callable[[oss2.Bucket], object], named: str) -> None:
    with pytest.raises(oss2.exceptions.ServerError) as refused:
        call(bucket)
    assert refused.value.code == "NotImplemented"
    assert named in refused.value.message
    assert not bucket.object_exists("a")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/qwen/Qwen-7B-Chat-Int8.git/info/refs"),
        ("POST", "/api/v1/login"),
        ("PUT", "/api/models/qwen/Qwen-7B-Chat-Int8"),
    ],
)
def test_hub(sandbox: Running, http: requests.Session, method: str, path: str) -> None:
    answer = http.request(method, sandbox.state.hub + path, timeout=60)
    assert answer.status_code == 501
    assert path in answer.json()["Message"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("exec limits -- ls", "pods/exec is not part of the sandbox: its containers run no"),
        ("port-forward pod/limits 8080", "pods/portforward is not part of the sandbox: send"),
        ("logs limits --since=1h", "the sandbox selects no log lines by their time"),
        (
            "create priorityclass x --value=1",
            "priorityclasses.scheduling.k8s.io is not part of the sandbox",
        ),
        ("top pods", "Metrics API not available"),
        ("get statefulsets", "doesn't have a resource type"),
    ],
)
def test_kubernetes(sandbox: Running, command: str, said: str) -> None:
    sandbox.apply(obj("Pod", "limits", spec=POD))
    sandbox.kubectl("wait", "pod/limits", "--for=jsonpath={.status.phase}=Running")
    done = sandbox.run(*command.split())
    assert done.returncode != 0
    assert said in done.stderr


def test_another_autoscaler(sandbox: Running) -> None:
    annotations = {"autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev"}
    spec = {"template": {"metadata": {"annotations": annotations}, "spec": POD}}
    sandbox.apply(obj("Service", "other", "serving.knative.dev/v1", spec=spec))
    assert "no autoscaler of class hpa" in sandbox.event("other-00001", "NotInSandbox")


@pytest.mark.parametrize(
    ("name", "more", "reason", "said"),
    [
        (
            "first",
            {"initContainers": [{"name": "i", "image": "busybox"}]},
            "NotInSandbox",
            "init containers",
        ),
        (
            "probed",
            {
                "containers": [
                    POD["containers"][0] | {"readinessProbe": {"exec": {"command": ["true"]}}}
                ]
            },
            "NotInSandbox",
            "readinessProbe runs a command",
        ),
    ],
)
def test_node(sandbox: Running, name: str, more: dict[str, object], reason: str, said: str) -> None:
    sandbox.apply(obj("Pod", name, spec=POD | more))
    assert said in sandbox.event(name, reason)


def test_the_gateway_knows_no_other_host(sandbox: Running, http: requests.Session) -> None:
    answer = http.get(sandbox.state.gateway, headers={"Host": "a.svc.cluster.local"}, timeout=60)
    assert (answer.status_code, answer.content) == (404, b"")
