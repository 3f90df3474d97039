"""The evidence of a failure: what is in the folder, and that no secret is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cluster_api import Api, Replay, obj, status

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.bundle import read_bundle
from qwenkit.errors import InvalidValue
from qwenkit.evidence import evidence
from qwenkit.settings import Settings
from qwenkit.steps import explain_bundle

_SECRET = "a-secret-of-the-environment"
_LOG = f"""INFO Received request cmpl-1: prompt: 'my illness', params: SamplingParams(n=1)
INFO Generated response cmpl-1: output: 'you are ill'
INFO args: Namespace(api_key='hidden-six'), {{'api_key': ['hidden-seven']}}, api_key=None
ValueError: the key is {_SECRET}
"""


@pytest.fixture
def api() -> Api:
    api = Replay("crash", at=60)
    api.listed, api.logs = lambda _kind: None, _LOG
    data = {"akId": "aGlkZGVu", "akSecret": "aGlkZGVu"}
    secret = obj("v1/Secret", "llm-model-oss", labels=Settings().labels, data=data)
    secret["metadata"] |= {
        "managedFields": [{"manager": "qwenkit"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "akSecret: hidden"},
    }
    api.add(secret)
    pod = next(each for each in api.objects.values() if each["kind"] == "Pod")
    container = pod["spec"]["containers"][0]
    container["env"] = [{"name": "HF_TOKEN", "value": "hidden-too"}, {"name": "A", "value": "b"}]
    container["args"] = ["serve", "--api-key", "hidden-three", "--api-key=hidden-four"]
    container["command"] = ["sh", "-c", "vllm serve --api-key 'hidden-five' --port 1"]
    return api


def _text(folder: Path) -> str:
    return "".join(path.read_text("utf-8") for path in folder.rglob("*") if path.is_file())


def test_a_folder_explains_itself_and_holds_no_secret(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", _SECRET)
    settings = Settings(context=cluster.context, env="MY_TOKEN=hidden-in-a-setting,B=c")
    kept = evidence(settings, tmp_path / "e")
    names = {str(p.relative_to(tmp_path / "e")) for p in (tmp_path / "e").glob("*")}
    assert names == {
        "README.txt", "objects.json", "logs", "explanation.json", "parameters.json",
        "rendered.yaml", "versions.json",
    }  # fmt: skip
    assert (kept.explanation, kept.logs) == (explain_bundle(tmp_path / "e"), 3)
    said = json.loads((tmp_path / "e" / "explanation.json").read_text("utf-8"))
    assert said.keys() == {"kind", "cause", "fix", "evidence", "permanent"}
    kinds = {each["kind"] for each in read_bundle(tmp_path / "e").objects}
    assert {"Service", "Revision", "Pod", "Secret", "Event", "PodAutoscaler"} <= kinds
    text = _text(tmp_path / "e")
    assert "akSecret" in text
    assert '"value": "b"' in text
    assert "--port 1" in text
    assert "api_key=None" in text
    for hidden in ("aGlk", "hidden", "managedFields", "kube-token", _SECRET, "illness", "are ill"):
        assert hidden not in text, hidden
    evidence(settings, tmp_path / "p", prompts=True)
    assert "my illness" in _text(tmp_path / "p")


def test_what_may_not_be_read_is_named(cluster: Cluster, api: Api, tmp_path: Path) -> None:
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "pods is forbidden") if path.endswith("/pods") else None
    )
    kept = evidence(Settings(context=cluster.context), tmp_path / "e")
    assert any(line.startswith("pod: listing pod failed") for line in kept.unread)
    assert "pods is forbidden" in (tmp_path / "e" / "README.txt").read_text("utf-8")


def test_a_cluster_that_is_away_leaves_the_parameters(tmp_path: Path) -> None:
    kept = evidence(Settings(), tmp_path)
    assert (kept.explanation.kind, kept.objects) == ("unknown", 0)
    assert "the cluster: kubeconfig" in kept.unread[0]
    assert "max_scale" in (tmp_path / "parameters.json").read_text("utf-8")
    with pytest.raises(InvalidValue, match="must be new or empty"):
        evidence(Settings(), tmp_path)
