"""The Job of ``upload --in-cluster``: its permissions, and that it contains no key."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import SecretStr

from qwenkit.credentials import Credentials, hub_token
from qwenkit.errors import SettingsError
from qwenkit.in_cluster.manifest import transfer_job, transfer_name, transfer_secret
from qwenkit.manifests.template import plain, to_yaml
from qwenkit.settings import Settings

KEYS = Credentials(access_key_id=SecretStr("an-id"), access_key_secret=SecretStr("a-secret"))


def settings(**more: Any) -> Settings:
    return Settings(
        **{
            "bucket": "weights",
            "oss_endpoint": "https://oss-cn-hangzhou.aliyuncs.com",
            "oss_internal_endpoint": "https://oss-cn-hangzhou-internal.aliyuncs.com",
            "transfer_image": "registry.cn-hangzhou.aliyuncs.com/me/qwenkit:1",
            "run": "alice",
            "upload_timeout_s": 90.5,
            **more,
        }
    )


def test_the_job_uploads_by_the_internal_endpoint_and_ends_by_itself() -> None:
    job = plain(transfer_job(settings(), ["hf:a/b", "oss://weights/x$(HOME)", "--json"]))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["qwenkit", "upload"]
    assert container["args"] == ["hf:a/b", "oss://weights/x$$(HOME)", "--json"]
    assert container["image"] == "registry.cn-hangzhou.aliyuncs.com/me/qwenkit:1"
    plainly = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert plainly["OSS_ENDPOINT"] == "https://oss-cn-hangzhou-internal.aliyuncs.com"
    assert plainly["QWENKIT_RUN"] == "alice"
    assert (spec["activeDeadlineSeconds"], pod["restartPolicy"]) == (90, "Never")
    assert spec["backoffLimit"] > 0
    assert spec["ttlSecondsAfterFinished"] > 0
    for labels in (job["metadata"]["labels"], spec["template"]["metadata"]["labels"]):
        assert labels.items() >= settings().labels.items()


def test_the_pod_may_do_nothing_but_upload() -> None:
    pod = plain(transfer_job(settings(), []))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    context = pod["containers"][0]["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_job_that_fills_a_claim_runs_where_the_servers_can() -> None:
    where = {"node_selector": "pool=gpu", "tolerations": "gpu=true:NoSchedule"}
    pod = plain(transfer_job(settings(storage="pvc", **where), []))["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert [one["key"] for one in pod["tolerations"]] == ["gpu"]
    assert "nodeSelector" not in transfer_job(settings(**where), [])["spec"]["template"]["spec"]


def test_every_key_comes_from_the_secret() -> None:
    env = plain(transfer_job(settings(), []))["spec"]["template"]["spec"]["containers"][0]["env"]
    secret = transfer_secret(settings(), KEYS, {"HF_TOKEN": SecretStr("a-token")})
    taken = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in env if "valueFrom" in one}
    assert {name: ref["key"] for name, ref in taken.items()} == {name: name for name in taken}
    assert {ref["name"] for ref in taken.values()} == {secret["metadata"]["name"]}
    optional = {name for name, ref in taken.items() if ref.get("optional")}
    assert taken.keys() - optional == {"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"}
    found = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    assert found == {
        "OSS_ACCESS_KEY_ID": "an-id",
        "OSS_ACCESS_KEY_SECRET": "a-secret",
        "HF_TOKEN": "a-token",
    }
    assert "a-secret" not in to_yaml([transfer_job(settings(), [])])


def test_only_the_source_s_own_hub_gets_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", " a-token ")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "another")
    assert {k: v.get_secret_value() for k, v in hub_token("hf:a/b").items()} == {
        "HF_TOKEN": "a-token"
    }
    assert list(hub_token("modelscope:a/b@v1")) == ["MODELSCOPE_API_TOKEN"]
    assert hub_token("some/folder") == {}


def test_two_uploads_to_one_target_have_one_name() -> None:
    names = {transfer_name(settings(prefix=prefix)) for prefix in ("a", "a", "b")}
    assert len(names) == 2
    assert all(len(name) <= 57 for name in names), "so that pods' names keep all of it"


def test_without_an_image_the_error_says_how_to_get_one() -> None:
    with pytest.raises(SettingsError, match="transfer_image") as refused:
        transfer_job(settings(transfer_image=""), [])
    assert "docker build" in refused.value.fix
