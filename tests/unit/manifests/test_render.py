from __future__ import annotations

import shlex
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr
from ruamel.yaml import YAML

from qwenkit.admission.review import review
from qwenkit.autoscaling.annotations import parse_spec
from qwenkit.credentials import Credentials
from qwenkit.errors import SettingsError
from qwenkit.manifests import render
from qwenkit.manifests.scaling import scaling_annotations, scaling_spec
from qwenkit.manifests.template import to_yaml
from qwenkit.settings import Settings

PAGE = """\
apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  labels:
    release: qwen
  name: qwen
  namespace: default
spec:
  template:
    metadata:
      annotations:
        autoscaling.knative.dev/metric: "concurrency" # 配置并发数为弹性伸缩指标
        autoscaling.knative.dev/target: "2" # 设置当前最大并发请求数为2
        autoscaling.knative.dev/max-scale: "3"
      labels:
        release: qwen
    spec:
      containers:
      - command:
        - sh
        - -c
        - python3 -m vllm.entrypoints.openai.api_server --port 8080 --trust-remote-code\
 --served-model-name qwen --model /Qwen-7B-Chat-Int8 --gpu-memory-utilization 0.95\
 --quantization gptq --max-model-len=6144 # /Qwen-7B-Chat-Int8为模型所在的路径
        image: kube-ai-registry.cn-shanghai.cr.aliyuncs.com/kube-ai/vllm:0.4.1
        imagePullPolicy: IfNotPresent
        name: vllm-container
        readinessProbe:
          tcpSocket:
            port: 8080
          initialDelaySeconds: 5
          periodSeconds: 5
        resources:
          limits:
            cpu: "32"
            memory: 64Gi
            nvidia.com/gpu: "1"
          requests:
            cpu: "8"
            memory: 16Gi
            nvidia.com/gpu: "1"
        volumeMounts:
        - mountPath: /Qwen-7B-Chat-Int8 # 模型所在的路径
          name: llm-model
      volumes:
      - name: llm-model
        persistentVolumeClaim:
          claimName: llm-model
"""
CLAIMS = {"kubernetes.podspec-persistent-volume-claim": "enabled"}
OURS = {"app.kubernetes.io/managed-by": "qwenkit", "qwenkit.dev/run": "default"}


def chosen(**values: Any) -> Settings:
    endpoint = "oss-cn-hangzhou-internal.aliyuncs.com"
    return Settings(**({"bucket": "course-weights", "oss_endpoint": endpoint} | values))


def parsed(settings: Settings) -> list[dict[str, Any]]:
    text = to_yaml(render.render(settings))
    return list(YAML(typ="safe").load_all(text))


def container(settings: Settings) -> dict[str, Any]:
    return container_of(parsed(settings)[3])


def container_of(service: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = service["spec"]["template"]["spec"]["containers"][0]
    return found


def command(settings: Settings) -> list[str]:
    return split(container(settings))


def server(settings: Settings) -> list[str]:
    return between(command(settings))


def between(words: list[str]) -> list[str]:
    """Return vLLM's command line, without the shell's own words around it."""
    assert words[-3:] == ["&", "wait", "$!"]
    return words[words.index("python3") : -3]


def split(container: dict[str, Any]) -> list[str]:
    return shlex.split(container["command"][2].replace("$$", "$"))


def test_the_page_is_rendered_as_it_is_printed() -> None:
    assert to_yaml([render.as_documented(chosen())]) == PAGE


def test_every_object_of_the_page_is_there_and_ours() -> None:
    docs = parsed(chosen())
    assert [doc["kind"] for doc in docs] == [
        "Secret",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "Service",
    ]
    for doc in docs:
        assert OURS.items() <= doc["metadata"]["labels"].items()
    assert docs[3]["spec"]["template"]["metadata"]["labels"] == {"release": "qwen"}


def test_the_volume_is_static_and_held_for_its_claim() -> None:
    _, volume, claim, _ = parsed(chosen(volume="weights", namespace="team", prefix="a/b"))
    spec = volume["spec"]
    assert spec["csi"]["driver"] == "ossplugin.csi.alibabacloud.com"
    assert spec["csi"]["volumeHandle"] == volume["metadata"]["name"] == "weights"
    assert spec["csi"]["volumeAttributes"] | {"otherOpts": ""} == {
        "bucket": "course-weights",
        "url": "oss-cn-hangzhou-internal.aliyuncs.com",
        "path": "/a/b",
        "fuseType": "ossfs2",
        "otherOpts": "",
    }
    assert (spec["claimRef"]["name"], spec["claimRef"]["namespace"]) == ("weights", "team")
    assert spec["storageClassName"] == claim["spec"]["storageClassName"] == ""
    assert claim["spec"]["accessModes"] == spec["accessModes"] == ["ReadOnlyMany"]
    assert claim["spec"]["volumeName"] == "weights"


def test_the_cluster_mounts_from_its_own_endpoint() -> None:
    settings = chosen(oss_internal_endpoint="oss-x-internal.aliyuncs.com")
    attributes = parsed(settings)[1]["spec"]["csi"]["volumeAttributes"]
    assert attributes["url"] == "oss-x-internal.aliyuncs.com"


def test_what_the_page_forgot() -> None:
    service = parsed(chosen())[3]
    spec = service["spec"]["template"]["spec"]
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations["serving.knative.dev/progress-deadline"] == "1800s"
    assert spec["timeoutSeconds"] == spec["responseStartTimeoutSeconds"] == 600
    assert spec["volumes"][0]["persistentVolumeClaim"]["readOnly"] is True
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True
    assert server(chosen())[-3:] == ["--dtype", "half", "--enforce-eager"]


def test_only_chosen_annotations_are_written() -> None:
    prefix = "autoscaling.knative.dev/"
    plain = {
        prefix + "metric": "concurrency",
        prefix + "target": "2",
        prefix + "min-scale": "0",
        prefix + "max-scale": "3",
        prefix + "window": "60s",
        "serving.knative.dev/progress-deadline": "1800s",
    }
    assert scaling_annotations(chosen()) == plain
    more = chosen(
        scale_target=2.5,
        target_burst_capacity=-1,
        panic_threshold_percentage=400,
        scale_down_delay="2m",
        activation_scale=2,
    )
    assert scaling_annotations(more) == plain | {
        prefix + "target": "2.5",
        prefix + "target-burst-capacity": "-1",
        prefix + "panic-threshold-percentage": "400",
        prefix + "scale-down-delay": "2m",
        prefix + "activation-scale": "2",
    }


def test_container_concurrency_is_written_when_it_limits() -> None:
    def limit(settings: Settings) -> Any:
        return parsed(settings)[3]["spec"]["template"]["spec"].get("containerConcurrency")

    assert limit(chosen()) is None
    assert limit(chosen(container_concurrency=8)) == 8


@pytest.mark.parametrize(
    ("values", "present", "absent"),
    [
        ({"quantization": ""}, "--dtype", "--quantization"),
        ({"dtype": ""}, "--quantization", "--dtype"),
        ({"gpu_count": 2}, "--tensor-parallel-size", "--none"),
        ({"gpu": "A10"}, "--dtype", "--enforce-eager"),
        ({"gpu_memory_utilization": 0.9}, "--dtype", "--enforce-eager"),
    ],
)
def test_flags_follow_the_settings(values: dict[str, Any], present: str, absent: str) -> None:
    flags = command(chosen(**values))
    assert present in flags
    assert absent not in flags


def test_extra_arguments_are_arguments() -> None:
    settings = chosen(extra_args="--seed 1 '$(rm -rf /)'; reboot --enforce-eager")
    words = server(settings)
    assert words[-6:] == ["half", "--seed", "1", "$(rm -rf /);", "reboot", "--enforce-eager"]
    assert "'$$(rm -rf /);'" in container(settings)["command"][2]
    with pytest.raises(SettingsError, match="extra_args"):
        render.render(chosen(extra_args="'open"))


def test_the_command_can_be_replaced() -> None:
    settings = chosen(command="python3 server.py --port 8080 && true")
    assert container(settings)["command"] == ["sh", "-c", settings.command]


def test_keys_enter_only_the_secret_to_apply() -> None:
    keys = Credentials(
        access_key_id=SecretStr("LTAI-id"), access_key_secret=SecretStr("the-secret")
    )
    settings = chosen()
    text = to_yaml(render.render(settings))
    assert "stringData" not in text
    assert "LTAI-id" not in text
    secret = render.secret(settings, keys)
    assert "stringData" not in secret, "server-side apply would never remove such a key again"
    decoded = {key: b64decode(text).decode() for key, text in secret["data"].items()}
    assert decoded == {"akId": "LTAI-id", "akSecret": "the-secret"}
    assert type(secret["metadata"]["name"]) is str
    reference = parsed(settings)[1]["spec"]["csi"]["nodePublishSecretRef"]
    assert secret["metadata"]["name"] == reference["name"]


def test_temporary_keys_use_the_driver_s_other_spelling() -> None:
    keys = Credentials(
        access_key_id=SecretStr("id"),
        access_key_secret=SecretStr("secret"),
        session_token=SecretStr("token"),
    )
    assert set(render.secret(chosen(), keys)["data"]) == {
        "AccessKeyId",
        "AccessKeySecret",
        "SecurityToken",
    }


names = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
paths = st.lists(st.from_regex(r"[A-Za-z0-9_. $'\"#:{}-]{1,8}", fullmatch=True), min_size=1).map(
    lambda parts: "/m/" + "/".join(part.strip(".") or "x" for part in parts)
)


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    least = draw(st.integers(0, 5))
    most = draw(st.just(0) | st.integers(max(least, 2), 20))
    optional = {
        "target_utilization_percentage": st.floats(1, 100),
        "target_burst_capacity": st.just(-1.0) | st.floats(0, 1e6),
        "panic_window_percentage": st.floats(1, 100),
        "panic_threshold_percentage": st.floats(110, 1000),
        "scale_down_delay": st.sampled_from(["0s", "1h", "2m30s"]),
        "scale_to_zero_pod_retention_period": st.sampled_from(["0.5s", "30m"]),
        "initial_scale": st.integers(1, 10),
    }
    values = {name: draw(st.none() | strategy) for name, strategy in optional.items()}
    return chosen(
        **values,
        service=draw(names),
        volume=draw(names),
        namespace=draw(names),
        run=draw(names),
        prefix="weights/" + draw(st.from_regex(r"[^/.\x00]{1,9}", fullmatch=True)),
        mount_path=draw(paths),
        served_model_name=draw(words),
        quantization=draw(st.sampled_from(["", "gptq", "awq"])),
        extra_args=shlex.join(draw(st.lists(words, max_size=3))),
        scale_metric=draw(st.sampled_from(["concurrency", "rps"])),
        scale_target=draw(st.floats(0.01, 1e9)),
        min_scale=least,
        max_scale=most,
        stable_window=draw(st.sampled_from(["6s", "60s", "1h"])),
        progress_deadline=draw(st.sampled_from(["0s", "1800s", "1h"])),
        request_timeout_s=draw(st.integers(1, 600)),
        container_concurrency=draw(st.integers(0, 1000)),
        gpu_count=draw(st.integers(1, 16)),
    )


@hypothesis_settings(deadline=None, max_examples=30)
@given(any_settings())
def test_any_valid_settings_render_to_what_the_cluster_accepts(settings: Settings) -> None:
    docs = parsed(settings)
    review(docs[3], features=CLAIMS)
    annotations = docs[3]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == scaling_annotations(settings)
    assert parse_spec(annotations, container_concurrency=settings.container_concurrency) == (
        scaling_spec(settings)
    )
    assert docs[1]["spec"]["csi"]["volumeAttributes"]["path"] == f"/{settings.prefix}"
    words_ = between(split(container_of(docs[3])))
    assert words_[words_.index("--model") + 1] == settings.mount_path
    assert words_[words_.index("--served-model-name") + 1] == settings.served_model_name
    extra = shlex.split(settings.extra_args)
    assert words_[len(words_) - len(extra) :] == extra
