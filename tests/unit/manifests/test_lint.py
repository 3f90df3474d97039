"""Every rule of the linter, each with the smallest change of good manifests that triggers it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenkit import manifests
from qwenkit.capacity.finding import Finding
from qwenkit.manifests.lint import lint
from qwenkit.manifests.render import as_documented, render
from qwenkit.manifests.template import plain
from qwenkit.settings import Settings

Docs = dict[str, dict[str, Any]]
GROUP, SERVING = "autoscaling.knative.dev", "serving.knative.dev"
SETTINGS = Settings(bucket="weights", oss_endpoint="oss-cn-hangzhou-internal.aliyuncs.com")
GOOD = {doc["kind"]: plain(doc) for doc in render(SETTINGS)}


def good() -> Docs:
    return copy.deepcopy(GOOD)


def found(docs: Docs | list[dict[str, Any]], **known: Any) -> list[Finding]:
    return lint(list(docs.values()) if isinstance(docs, dict) else docs, **known)


def attributes(docs: Docs) -> dict[str, Any]:
    return docs["PersistentVolume"]["spec"]["csi"]["volumeAttributes"]  # type: ignore[no-any-return]


def template(docs: Docs) -> dict[str, Any]:
    return docs["Service"]["spec"]["template"]  # type: ignore[no-any-return]


def container(docs: Docs) -> dict[str, Any]:
    return template(docs)["spec"]["containers"][0]  # type: ignore[no-any-return]


def oss(**values: str | None) -> Callable[[Docs], None]:
    def change(docs: Docs) -> None:
        for key, value in values.items():
            if value is None:
                attributes(docs).pop(key)
            else:
                attributes(docs)[key] = value

    return change


def nas(**values: str | None) -> Callable[[Docs], None]:
    by_nas = Settings(storage="nas", nas_server="a.cn-hangzhou.nas.aliyuncs.com")

    def change(docs: Docs) -> None:
        docs.update({doc["kind"]: plain(doc) for doc in render(by_nas)})
        assert not [one for one in found(docs) if one.rule.startswith("nas-")]
        oss(**values)(docs)

    return change


def annotation(key: str, value: str | None) -> Callable[[Docs], None]:
    def change(docs: Docs) -> None:
        annotations = template(docs)["metadata"]["annotations"]
        annotations.pop(key, None)
        if value is not None:
            annotations[key] = value

    return change


def spec(kind: str, **values: Any) -> Callable[[Docs], None]:
    return lambda docs: docs[kind]["spec"].update(values)


def revision(**values: Any) -> Callable[[Docs], None]:
    def change(docs: Docs) -> None:
        template(docs)["spec"].update(values)
        for name in [name for name, value in values.items() if value is None]:
            del template(docs)["spec"][name]

    return change


def flags(before: str, after: str) -> Callable[[Docs], None]:
    def change(docs: Docs) -> None:
        line = container(docs)["command"][2]
        assert before in line
        container(docs)["command"][2] = line.replace(before, after)

    return change


def label(key: str) -> Callable[[Docs], None]:
    return lambda docs: template(docs)["metadata"]["labels"].update({key: "2"})


def on_service(key: str) -> Callable[[Docs], None]:
    return lambda docs: docs["Service"]["metadata"].update(annotations={key: "1800s"})


def of_container(**values: Any) -> Callable[[Docs], None]:
    return lambda docs: container(docs).update(values)


def without_gpu(docs: Docs) -> None:
    for side in ("limits", "requests"):
        del container(docs)["resources"][side]["nvidia.com/gpu"]


def another_volume(docs: Docs) -> None:
    twin = copy.deepcopy(docs["PersistentVolume"])
    twin["metadata"]["name"] = "other"
    docs["other"] = twin


def keys(**values: str) -> Callable[[Docs], None]:
    return lambda docs: docs["Secret"].update(stringData=values)


def secret_of(namespace: str) -> Callable[[Docs], None]:
    return lambda docs: docs["Secret"]["metadata"].update(namespace=namespace)


def writable(docs: Docs) -> None:
    template(docs)["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = False


SAFE = "--max-model-len=6144"
CASES: list[tuple[str, str, Callable[[Docs], None]]] = [
    ("unreadable", "error", oss(otherOpts="\ud800")),
    ("oss-empty", "error", oss(bucket="")),
    ("oss-empty", "error", oss(url="")),
    ("oss-custom-domain", "advice", oss(url="https://weights.example.com")),
    ("nas-server", "error", nas(server=None)),
    ("nas-server", "error", nas(server="a.nas.aliyuncs.com:/x")),
    ("nas-path", "error", nas(path="x")),
    ("nas-mode", "error", nas(path="/", mode="0777")),
    ("nas-version", "error", nas(server="a.cn-hangzhou.extreme.nas.aliyuncs.com", vers="4.0")),
    ("nas-unknown-attribute", "warning", nas(sever="x")),
    ("oss-fuse-type", "error", oss(fuseType="s3fs")),
    ("oss-bucket-domain", "error", oss(url="https://weights.oss-cn-hangzhou.aliyuncs.com")),
    ("oss-path", "error", oss(path="Qwen")),
    ("oss-encrypted", "error", oss(encrypted="aes256")),
    ("oss-encrypted", "error", oss(encrypted="rot13", fuseType="ossfs")),
    ("oss-other-opts", "error", oss(otherOpts="attr_timeout=1")),
    ("oss-other-opts", "error", oss(otherOpts="-o a -o")),
    ("oss-auth", "error", oss(authType="public")),
    ("oss-auth", "error", oss(authType="rrsa")),
    ("oss-auth", "error", oss(authType="rrsa", roleArn="a")),
    ("oss-auth", "error", oss(assumeRoleArn="a")),
    ("oss-auth", "error", oss(authType="csi-secret-store", fuseType="ossfs")),
    ("oss-auth", "warning", oss(authType="sts")),
    ("secret-reference", "error", oss(secretRef="keys")),
    ("oss-auth", "warning", oss(authType="magic", fuseType="ossfs")),
    ("oss-inline-keys", "error", oss(akId="x", akSecret="y")),
    ("oss-unknown-attribute", "warning", oss(fusetyp="ossfs2")),
    ("oss-ossfs1-options", "advice", oss(otherOpts="-o allow_other")),
    ("oss-public-endpoint", "advice", oss(url="oss-cn-hangzhou.aliyuncs.com")),
    ("oss-accelerate", "warning", oss(url="https://oss-accelerate.aliyuncs.com")),
    ("oss-region", "warning", oss(sigVersion="v4")),
    ("oss-mount-options", "warning", spec("PersistentVolume", mountOptions=["ro"])),
    ("pv-handle", "warning", lambda d: d["PersistentVolume"]["metadata"].update(name="other")),
    ("pv-handle-shared", "error", another_volume),
    ("pv-reclaim", "warning", spec("PersistentVolume", persistentVolumeReclaimPolicy="Delete")),
    ("pv-writable", "warning", spec("PersistentVolume", accessModes=["ReadWriteMany"])),
    ("pv-claim-ref", "advice", spec("PersistentVolume", claimRef=None)),
    ("pv-claim-ref-differs", "error", spec("PersistentVolume", claimRef={"name": "x"})),
    ("pvc-class", "warning", spec("PersistentVolumeClaim", storageClassName=None)),
    ("pvc-class-differs", "error", spec("PersistentVolumeClaim", storageClassName="fast")),
    ("pvc-volume", "warning", spec("PersistentVolumeClaim", volumeName="")),
    ("pvc-access-modes", "error", spec("PersistentVolumeClaim", accessModes=["ReadWriteOnce"])),
    ("pvc-size", "error", spec("PersistentVolume", capacity={"storage": "1Gi"})),
    (
        "pvc-missing",
        "warning",
        lambda d: d["PersistentVolumeClaim"]["metadata"].update(namespace="other"),
    ),
    ("secret-reference", "warning", secret_of("other")),
    (
        "secret-reference",
        "warning",
        lambda d: d["PersistentVolume"]["spec"]["csi"].pop("nodePublishSecretRef"),
    ),
    ("secret-keys", "error", keys(akId="x")),
    ("secret-keys", "error", keys(akid="x", aksecret="y")),
    ("annotation-as-label", "warning", label(f"{GROUP}/target")),
    ("annotation-misplaced", "warning", annotation(f"{SERVING}/rollout-duration", "60s")),
    ("annotation-misplaced", "warning", on_service(f"{SERVING}/progress-deadline")),
    ("annotation-not-finite", "error", annotation(f"{GROUP}/target", "NaN")),
    ("admission", "error", annotation(f"{GROUP}/min-scale", "9")),
    ("target-over-limit", "warning", revision(containerConcurrency=1)),
    ("response-start", "warning", revision(responseStartTimeoutSeconds=None)),
    ("response-start", "advice", revision(responseStartTimeoutSeconds=100)),
    ("timeout-short", "advice", revision(timeoutSeconds=300, responseStartTimeoutSeconds=300)),
    ("progress-deadline", "warning", annotation(f"{SERVING}/progress-deadline", "2m")),
    ("progress-deadline", "advice", annotation(f"{SERVING}/progress-deadline", None)),
    ("pvc-not-read-only", "warning", writable),
    ("image-version", "warning", of_container(image="registry.example.com/vllm")),
    ("image-version", "warning", of_container(image="registry.example.com:5000/vllm:latest")),
    ("gpu-limit", "error", without_gpu),
    ("gpu-count", "error", flags(SAFE, f"{SAFE} --tensor-parallel-size 2")),
    ("shell-without-exec", "advice", flags("trap ", ": ")),
    ("model-path", "error", flags("--model /Qwen", "--model /data/Qwen")),
    ("port-differs", "error", flags("--port 8080", "--port 8000")),
    ("dtype", "error", flags("--dtype half", "--dtype bfloat16")),
    ("command-one-word", "error", of_container(command=["vllm serve /m"])),
    ("argument-one-word", "error", of_container(command=["vllm", "serve", "--port 8080"])),
    ("variable-unread", "error", of_container(command=["vllm", "serve", "--port", "$PORT"])),
    ("variable-unread", "error", of_container(command=["vllm", "serve", "$(MODEL)"])),
    ("load-strategy", "error", flags(SAFE, f"{SAFE} --safetensors-load-strategy eager")),
    ("trust-remote-code", "error", flags(" --trust-remote-code", "")),
]
KNOWN_GPU: list[tuple[str, str, str, Callable[[Docs], None]]] = [
    ("dtype", "warning", "V100-16", flags(" --dtype half", "")),
    ("gpu-memory", "warning", "V100-16", flags(" --enforce-eager", "")),
    ("quantization", "error", "V100-16", flags("gptq", "awq")),
    ("quantization", "error", "T4", flags("gptq", "gptq_marlin")),
    ("kv-cache", "error", "T4", flags(SAFE, "--max-model-len=16384")),
    ("weights-size", "error", "T4", flags("-Int8 --gpu", " --gpu")),
    ("image-gpu", "error", "V100-16", of_container(image="vllm/vllm-openai:v0.11.0")),
    ("tensor-parallel", "error", "A10", flags(SAFE, f"{SAFE} -tp 3")),
]


def triggered(docs: Docs, rule: str, **known: Any) -> list[str]:
    return [finding.level for finding in found(docs, **known) if finding.rule == rule]


@pytest.mark.parametrize(("rule", "level", "change"), CASES, ids=[case[0] for case in CASES])
def test_rule(rule: str, level: str, change: Callable[[Docs], None]) -> None:
    docs = good()
    assert triggered(docs, rule) == []
    change(docs)
    assert level in triggered(docs, rule)


@pytest.mark.parametrize(("rule", "level", "gpu", "change"), KNOWN_GPU)
def test_rule_for_a_gpu(rule: str, level: str, gpu: str, change: Callable[[Docs], None]) -> None:
    docs = good()
    assert triggered(docs, rule, gpu=gpu) == []
    change(docs)
    assert level in triggered(docs, rule, gpu=gpu)


def test_every_rule_has_a_case() -> None:
    paths = Path(manifests.__path__[0]).glob("lint*.py")
    source = "".join(path.read_text("utf-8") for path in paths)
    tested = {case[0] for case in CASES} | {case[0] for case in KNOWN_GPU} | {"probe-tcp"}
    rules = re.compile(r'Finding\(\s*"\w+",\s*"([a-z0-9-]+)"|_refused\(\s*"([a-z-]+)"')
    assert {one or two for one, two in rules.findall(source)} <= tested


READS = " --safetensors-load-strategy prefetch"
OSS = {"bucket": "weights", "oss_endpoint": "oss-cn-hangzhou-internal.aliyuncs.com"}
NAS = {"storage": "nas", "nas_server": "a.cn-hangzhou.nas.aliyuncs.com"}


@pytest.mark.parametrize(
    ("where", "version", "says", "level"),
    [
        (OSS, "0.26.0", READS, None),
        (OSS, "0.26.0", "", "advice"),
        (OSS, "0.26.0", " --load-format runai_streamer", None),
        (OSS | {"fuse_type": "ossfs"}, "0.11.0", "", "advice"),
        (OSS, "0.11.0", READS, "warning"),
        (OSS, "0.10.2", READS, "error"),
        (OSS, "0.10.2", "", None),
        (NAS, "0.26.0", "", None),
        (NAS, "0.10.2", READS, "error"),
    ],
)
def test_weights_on_a_fuse_mount_are_read_from_start_to_end(
    where: dict[str, str], version: str, says: str, level: str | None
) -> None:
    settings = Settings(model_source="modelscope:Qwen/Qwen3-8B", gpu="L20", **where)
    docs = {doc["kind"]: plain(doc) for doc in render(settings)}
    container(docs)["image"] = f"vllm/vllm-openai:v{version}"
    line = container(docs)["command"]
    line[2] = line[2].replace(READS, "").replace(" & wait", f"{says} & wait")
    remarks = [one for one in found(docs) if one.rule == "load-strategy"]
    assert [one.level for one in remarks] == ([level] if level else [])
    if level == "advice":
        reads = "prefetch" if version == "0.26.0" else "eager"
        assert remarks[0].fix == f"pass --safetensors-load-strategy {reads}"
        assert re.search(
            r"16 GB from ossfs2? take .* s, not .* min \(elsewhere", remarks[0].message
        )


def test_rendered_defaults_are_good() -> None:
    remarks = found(good(), gpu="V100-16")
    assert {finding.level for finding in remarks} == {"advice"}
    rules = {finding.rule for finding in remarks}
    assert rules == {"probe-tcp", "hair-trigger-panic", "endless-panic", "always-proxy"}


def test_scaling_findings_name_their_place_in_the_document() -> None:
    docs = good()
    annotation(f"{GROUP}/max-scale", "0")(docs)
    revision(idleTimeoutSeconds=60)(docs)
    places = {finding.rule: finding.where for finding in found(docs)}
    annotations = "Service/qwen spec.template.metadata.annotations"
    assert places["max-scale-unset"] == f"{annotations}.{GROUP}/max-scale"
    assert places["idle-timeout"] == "Service/qwen spec.template.spec.idleTimeoutSeconds"


def test_a_value_that_cannot_be_read_hides_no_other_finding() -> None:
    docs = good()
    annotation(f"{GROUP}/target", "2x")(docs)
    annotation(f"{GROUP}/window", "1d")(docs)
    revision(idleTimeoutSeconds=60)(docs)
    assert {"admission", "idle-timeout", "hair-trigger-panic"} <= {f.rule for f in found(docs)}


def test_the_page_draws_the_remarks_that_the_course_makes() -> None:
    rules = {finding.rule for finding in lint([as_documented(SETTINGS)], gpu="V100-16")}
    assert {"pvc-not-read-only", "dtype", "timeout-short", "progress-deadline"} <= rules
    assert "admission" not in rules


def test_a_cluster_without_the_claim_flag_is_told() -> None:
    first = lint([as_documented(SETTINGS)], features={})[0]
    assert (first.level, first.rule, first.where) == ("error", "admission", "Service/qwen")
    assert "Persistent volume claim support is disabled" in first.message
    assert "kubernetes.podspec-persistent-volume-claim" in first.fix


@pytest.mark.parametrize(
    "doc",
    [
        {},
        {"kind": "PersistentVolume", "spec": []},
        {"kind": "PersistentVolume", "spec": {"csi": {"driver": "ossplugin.csi.alibabacloud.com"}}},
        {"kind": "Secret", "stringData": "x"},
        {"kind": "PersistentVolumeClaim", "spec": {"accessModes": 1}},
        {"kind": "Service", "apiVersion": "serving.knative.dev/v1"},
        {"kind": "Service", "apiVersion": "serving.knative.dev/v1", "spec": {"template": 1}},
        {"kind": "Service", "apiVersion": "v1", "spec": {"ports": []}},
    ],
)
def test_any_document_can_be_examined(doc: dict[str, Any]) -> None:
    for finding in lint([doc, *GOOD.values()]):
        assert finding.message
        assert finding.fix


def test_values_that_are_used_again_and_again_are_bounded() -> None:
    inner: dict[str, Any] = {"a": "x"}
    for _ in range(40):
        inner = {"a": inner, "b": inner}
    (found,) = lint([{"apiVersion": "v1", "kind": "Secret", "data": inner}])
    assert (found.rule, found.level) == ("unreadable", "error")


def test_what_a_cluster_may_allow_is_left_for_it_to_judge() -> None:
    settings = Settings(node_selector="gpu=A10", runtime_class="nvidia", request_timeout_s=1800)
    service = render(settings)[-1]
    assert "error" not in {finding.level for finding in lint([service])}
    (refused,) = [one.message for one in lint([service], features={}) if one.level == "error"]
    for field in ("nodeSelector", "runtimeClassName", "timeoutSeconds"):
        assert f"spec.template.spec.{field}" in refused
