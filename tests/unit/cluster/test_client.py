from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, obj, serving, status, write_kubeconfig

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import NODE, PVC, SECRET, Kind, as_kind
from qwenkit.errors import (
    Conflict,
    Forbidden,
    InvalidValue,
    NotFound,
    QwenkitError,
    Rejected,
    Unreachable,
)
from qwenkit.settings import Settings

FLAG_REFUSAL = (
    'admission webhook "validation.webhook.serving.knative.dev" denied the request: validation '
    "failed: Persistent volume claim support is disabled, but found persistent volume claim "
    "llm-model:\nPersistent volume write support is disabled, but found persistent volume claim "
    "llm-model that is not read-only:\nmust not set the field(s): "
    "spec.template.spec.nodeSelector, spec.template.spec.volumes[0]"
)


@pytest.fixture(autouse=True)
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers there: a client that uses it cannot reach the server."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def claim(name: str = "llm-model", labels: dict[str, str] = OURS, **more: Any) -> dict[str, Any]:
    volume = {"volumeName": name}
    return obj("v1/PersistentVolumeClaim", name, labels=labels, spec=volume, **more)


def test_the_named_context_is_used_and_not_the_current_one(cluster: Cluster) -> None:
    assert cluster.version()["gitVersion"] == "v1.36.2"


@pytest.mark.usefixtures("cluster")
def test_an_unknown_context_is_refused_with_those_that_exist() -> None:
    with pytest.raises(NotFound) as caught:
        Cluster.connect(Settings(context="kind-course"))
    assert "sandbox, production" in caught.value.why
    assert "--context" in caught.value.fix


def test_a_missing_sandbox_context_says_how_to_start_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_kubeconfig(tmp_path / "other", "http://127.0.0.1:9", context="mine")
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(NotFound, match="sandbox") as caught:
        Cluster.connect(Settings())
    assert "qwenkit sandbox up" in caught.value.fix
    assert "qwenkit sandbox env" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "error"), [(None, NotFound), ("[", InvalidValue), ("[1]", InvalidValue)]
)
def test_a_file_that_is_not_a_kubeconfig(
    text: str | None, error: type[QwenkitError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text, "utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(error, match=str(path) if text is None else "KUBECONFIG"):
        Cluster.connect(Settings())


def test_a_refused_connection_names_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Api().app()) as gone:
        path = write_kubeconfig(tmp_path / "config", gone)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(Unreachable, match=gone) as caught:
        Cluster.connect(Settings(), first_answer_s=0)
    assert "refused" in caught.value.why.lower()


def test_discovery_leaves_no_file(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert cluster.list(NODE) == []
    assert list(folder.iterdir()) == []


def test_find_is_none_and_get_raises(cluster: Cluster) -> None:
    assert cluster.find("ksvc", "qwen") is None
    with pytest.raises(NotFound, match="ksvc qwen"):
        cluster.get("ksvc", "qwen")


def test_an_unknown_kind_is_absent_until_it_is_installed(cluster: Cluster, api: Api) -> None:
    api.without = {"Service", "Configuration", "Revision", "Route"}
    assert not cluster.serves(as_kind("ksvc"))
    with pytest.raises(NotFound, match=r"Service of serving\.knative\.dev") as caught:
        cluster.get("ksvc", "qwen")
    assert "Knative" in caught.value.fix
    api.without = set()
    assert cluster.serves(as_kind("ksvc"))


def test_list_filters_by_labels_and_completes_the_items(cluster: Cluster, api: Api) -> None:
    api.add(claim("a"))
    api.add(claim("b", {}))
    api.add(claim("c", namespace="other"))
    found = cluster.list("pvc", labels=OURS)
    assert [obj["metadata"]["name"] for obj in found] == ["a"]
    assert (found[0]["apiVersion"], found[0]["kind"]) == ("v1", "PersistentVolumeClaim")


def test_apply_is_server_side_under_our_name(cluster: Cluster, api: Api) -> None:
    assert cluster.apply(claim())["metadata"]["uid"]
    method, path, query, _ = api.requests[-1]
    assert (method, query["fieldManager"]) == ("PATCH", "qwenkit")
    assert path.endswith("/namespaces/default/persistentvolumeclaims/llm-model")


def test_a_dry_run_changes_nothing(cluster: Cluster, api: Api) -> None:
    cluster.apply(claim(), dry_run=True)
    assert api.requests[-1][2]["dryRun"] == "All"
    assert cluster.find(PVC, "llm-model") is None


def test_foreign_objects_are_neither_applied_nor_patched_nor_deleted(
    cluster: Cluster, api: Api
) -> None:
    foreign = claim(labels={})
    foreign["metadata"]["managedFields"] = [{"manager": "kubectl-create"}]
    api.add(foreign)
    before = str(foreign)
    for act in (
        lambda: cluster.apply(claim()),
        lambda: cluster.patch(PVC, "llm-model", {"spec": {"a": 1}}),
        lambda: cluster.delete(PVC, "llm-model"),
    ):
        with pytest.raises(Conflict, match="pvc llm-model") as caught:
            act()
        assert "kubectl-create" in caught.value.why
    assert str(api.get("PersistentVolumeClaim", "llm-model")) == before
    assert {method for method, *_ in api.requests} == {"GET"}


def test_another_run_s_object_is_left_alone(cluster: Cluster, api: Api) -> None:
    api.add(claim(labels=OURS | {"qwenkit.dev/run": "alice"}))
    with pytest.raises(Conflict, match="not ours") as caught:
        cluster.apply(claim())
    assert "'alice'" in caught.value.why


def test_delete_is_idempotent_and_names_the_uid(cluster: Cluster, api: Api) -> None:
    obj = api.add(claim())
    assert cluster.delete(PVC, "llm-model")
    assert api.requests[-1][3]["preconditions"] == {"uid": obj["metadata"]["uid"]}
    assert not cluster.delete(PVC, "llm-model")


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (400, "bad", Rejected),
        (401, "Unauthorized", Forbidden),
        (403, "pods is forbidden", Forbidden),
        (403, 'admission webhook "policy" denied the request: no', Rejected),
        (403, "exceeded quota: gpus", Rejected),
        (404, "gone", NotFound),
        (422, "invalid", Rejected),
        (418, "teapot", QwenkitError),
    ],
)
def test_each_status_has_one_meaning(
    cluster: Cluster, api: Api, code: int, message: str, error: type[QwenkitError]
) -> None:
    api.refuse = lambda method, _path, _body: (
        status(code, "Reason", message) if method == "PATCH" else None
    )
    with pytest.raises(QwenkitError) as caught:
        cluster.apply(claim())
    assert type(caught.value) is error
    assert message in caught.value.why
    assert caught.value.context["status"] == code
    assert "kube-token" not in str(caught.value)


def test_the_refusal_of_a_field_behind_a_flag_comes_with_the_patch(
    cluster: Cluster, api: Api
) -> None:
    api.refuse = lambda method, _path, _body: (
        status(400, "BadRequest", FLAG_REFUSAL) if method == "PATCH" else None
    )
    with pytest.raises(Rejected) as caught:
        cluster.apply(obj(KSVC, "qwen"))
    assert "kubectl patch configmap config-features -n knative-serving" in caught.value.fix
    assert '"kubernetes.podspec-persistent-volume-claim":"enabled"' in caught.value.fix
    assert '"kubernetes.podspec-persistent-volume-write":"enabled"' in caught.value.fix
    assert '"kubernetes.podspec-nodeselector":"enabled"' in caught.value.fix


def test_logs_are_text_even_if_they_look_like_json(cluster: Cluster, api: Api) -> None:
    api.add(obj("v1/Pod", "p"))
    assert cluster.logs("p", container="c") == "last words\n"
    api.logs = "123"
    assert cluster.logs("p", container="c") == "123"


def test_a_kind_may_be_named_as_in_kubectl(cluster: Cluster) -> None:
    assert cluster.find("PersistentVolumeClaim", "x") is None
    assert cluster.find("secret", "x") is None
    assert str(SECRET) == "secret"
    with pytest.raises(InvalidValue, match="kind"):
        cluster.find("deploymentz", "x")
    assert not cluster.serves(Kind("example.org/v1", "Nothing"))


@pytest.mark.parametrize("path", ["a" * 300, "~nosuchuser/config", "/dev/null/config"])
def test_a_path_that_cannot_be_is_not_found(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", path)
    with pytest.raises(NotFound, match="cannot be read"):
        Cluster.connect(Settings(context="mine"))
