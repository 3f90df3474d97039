"""The objects of each kind of storage: what is there, and what is not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from qwenkit.capacity.catalogue import find_config
from qwenkit.errors import SettingsError
from qwenkit.manifests.lint import lint
from qwenkit.manifests.render import render
from qwenkit.manifests.template import to_yaml
from qwenkit.settings import Settings

OSS = {"bucket": "course-weights", "oss_endpoint": "oss-cn-hangzhou-internal.aliyuncs.com"}
NAS = {"storage": "nas", "nas_server": "a.cn-hangzhou.nas.aliyuncs.com"}
RRSA = OSS | {"oss_auth": "rrsa", "rrsa_role": "qwen-reader"}


def documents(**values: Any) -> tuple[dict[str, Any], str]:
    text = to_yaml(render(Settings(**values)))
    return {doc["kind"]: doc for doc in YAML(typ="safe").load_all(text)}, text


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        (OSS, ["Secret", "PersistentVolume", "PersistentVolumeClaim", "Service"]),
        (RRSA, ["PersistentVolume", "PersistentVolumeClaim", "Service"]),
        (NAS, ["PersistentVolume", "PersistentVolumeClaim", "Service"]),
        ({"storage": "pvc"}, ["PersistentVolumeClaim", "Service"]),
        (OSS | {"fuse_type": "ossfs"}, ["Secret", "PersistentVolume", "PersistentVolumeClaim"]),
    ],
)
def test_each_kind_has_its_objects_and_lint_finds_nothing(
    values: dict[str, Any], kinds: list[str]
) -> None:
    found, text = documents(**values)
    assert list(found)[: len(kinds)] == kinds
    assert "${" not in text
    findings = lint(render(Settings(**values)))
    assert [one for one in findings if one.level != "advice"] == []
    pod = found["Service"]["spec"]["template"]["spec"]
    (mount,) = (one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "llm-model")
    assert mount["readOnly"] is True
    inside = "Qwen-7B-Chat-Int8" if values.get("storage") == "pvc" else None
    assert mount.get("subPath") == inside
    (volume,) = (one for one in pod["volumes"] if one["name"] == "llm-model")
    assert volume["persistentVolumeClaim"] == {"claimName": "llm-model", "readOnly": True}


def test_a_role_needs_no_secret_and_says_how_it_is_made() -> None:
    found, text = documents(**RRSA)
    csi = found["PersistentVolume"]["spec"]["csi"]
    assert "nodePublishSecretRef" not in csi
    assert (
        csi["volumeAttributes"].items() >= {"authType": "rrsa", "roleName": "qwen-reader"}.items()
    )
    policy = json.loads(re.findall(r"--PolicyDocument '(.*)'", text)[0])
    assert policy["Statement"][0]["Action"] == ["oss:Get*", "oss:List*"]
    assert policy["Statement"][0]["Resource"] == [
        "acs:oss:*:*:course-weights",
        "acs:oss:*:*:course-weights/*",
    ]
    assert "--namespace ack-csi-fuse" in text
    assert "--service-account csi-fuse-ossfs --role-name qwen-reader" in text
    assert "not tried on a live cluster" in text
    assert "ack-ram-tool" not in documents(**OSS)[1]


def test_a_role_that_is_named_is_used() -> None:
    assert Settings(rrsa_role="reader").oss_auth == "rrsa"
    assert Settings(rrsa_role="reader", oss_auth="key").oss_auth == "key"


def test_a_role_without_a_name_is_an_error() -> None:
    findings = lint(render(Settings(**RRSA | {"rrsa_role": ""})))
    assert [one.rule for one in findings if one.level == "error"] == ["oss-auth"]


def test_a_nas_is_written_by_the_job_and_read_by_servers() -> None:
    found, _ = documents(**NAS)
    volume, claim = found["PersistentVolume"], found["PersistentVolumeClaim"]
    assert volume["spec"]["csi"]["volumeAttributes"] == {
        "server": NAS["nas_server"],
        "path": "/Qwen-7B-Chat-Int8",
        "vers": "3",
        "mode": "0777",
    }
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize(
    ("values", "size", "of_class"),
    [
        ({}, "11Gi", None),
        ({"model_source": "hf:Qwen/Qwen3-8B"}, "18Gi", None),
        ({"model_source": "hf:nobody/unknown"}, "80Gi", None),
        ({"storage_size": "300Gi", "storage_class": "fast"}, "300Gi", "fast"),
    ],
)
def test_a_claim_is_as_large_as_the_model(
    values: dict[str, Any], size: str, of_class: str | None
) -> None:
    claim = documents(storage="pvc", **values)[0]["PersistentVolumeClaim"]
    assert claim["spec"]["resources"]["requests"]["storage"] == size
    assert claim["spec"].get("storageClassName") == of_class
    assert claim["metadata"]["annotations"] == {"qwenkit.dev/weights": "kept"}


def test_a_claim_is_as_large_as_a_config_that_was_read_says() -> None:
    unknown = Settings(storage="pvc", model_source="hf:me/own")
    claim = render(unknown.described_by(find_config("Qwen3-8B")))[0]
    assert claim["spec"]["resources"]["requests"]["storage"] == "18Gi"


def test_a_claim_with_weights_never_expires() -> None:
    found, _ = documents(storage="pvc", expires_after="8h")
    assert "qwenkit.dev/expires-at" in found["Service"]["metadata"]["annotations"]
    assert "qwenkit.dev/expires-at" not in found["PersistentVolumeClaim"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    "values", [{"nas_server": "a.com:/x"}, {"rrsa_role": "a b"}, {"storage_size": "large"}]
)
def test_impossible_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(values))):
        Settings(**values)
