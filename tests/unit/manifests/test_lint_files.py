"""``qwenkit lint`` on files of others: public reports, odd files, and shapes nobody foresaw."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.admission.config_maps import ALL_FEATURES
from qwenkit.capacity.finding import Finding
from qwenkit.cli.lint import _block
from qwenkit.cli.main import main
from qwenkit.manifests.lint_files import lint_files
from qwenkit.manifests.lint_storage import DRIVER as OSS
from tests.support.places import DATA

REPORTS = json.loads((DATA / "reports/lint.json").read_text())
SERVICE = """\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: a}
spec:
  template:
    spec:
      containers:
      - image: vllm/vllm-openai:v0.8.5
        command: [vllm, serve, /models/q]
        resources: {limits: {RESOURCE: "2"}}
        volumeMounts: [{name: m, mountPath: /models, readOnly: true}]
      volumes: [{name: m, persistentVolumeClaim: {claimName: m, readOnly: true}}]
"""


def rules(*texts: str, **known: Any) -> set[str]:
    found = lint_files([(f"{n}.yaml", text) for n, text in enumerate(texts)], **known)
    return {f"{one.level} {one.rule}" for one in found if one.level != "advice"}


@pytest.mark.parametrize("case", REPORTS, ids=[case["file"] for case in REPORTS])
def test_public_reports(case: dict[str, Any]) -> None:
    path = DATA / "reports/yaml" / case["file"]
    found = lint_files([(path.name, path.read_text())], features=ALL_FEATURES, gpu="V100-16")
    said = " ; ".join(f"<{f.level}> {f.rule} {f.message} {f.fix}" for f in found)
    assert all(re.search(wanted, said, re.I) for wanted in case.get("mention", []))
    assert not any(re.search(wrong, said, re.I) for wrong in case.get("never", []))


@pytest.mark.parametrize(
    ("resource", "rule"),
    [
        ("nvidia.com/gpu", "warning gpu-count"),
        ("cpu", "error gpu-limit"),
        ("amd.com/gpu", "warning gpu-count"),
    ],
)
def test_gpus_that_are_counted(resource: str, rule: str) -> None:
    assert rules(SERVICE.replace("RESOURCE", resource)) - {rule} == {
        "error port-differs",
        "warning max-scale-unset",
    }


@pytest.mark.parametrize(
    "resource",
    ["nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb", "aliyun.com/gpu-mem", "google.com/tpu"],
)
def test_gpus_that_are_not_counted(resource: str) -> None:
    found = rules(SERVICE.replace("RESOURCE", resource))
    assert found == {"error port-differs", "warning max-scale-unset"}


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ('[sh, -c, "hf download a/b --local-dir /tmp/m && exec vllm serve /tmp/m"]', set()),
        ('[sh, -c, "exec vllm serve /tmp/m"]', {"error model-path"}),
        ('[vllm, serve, /models/q, "-tp=2", "-pp", "2"]', {"error gpu-count"}),
        ('["python3", "-m", "vllm.entrypoints.api_server", "--model=/models"]', set()),
        ('["vllm serve /models/q"]', {"error command-one-word"}),
        ('["vllm", "serve", "/models/q", "--dtype half"]', {"error argument-one-word"}),
        ("[/bin/start.sh, $PORT]", set()),
    ],
)
def test_other_command_lines(command: str, wrong: set[str]) -> None:
    text = SERVICE.replace("[vllm, serve, /models/q]", command).replace("RESOURCE", "amd.com/gpu")
    found = rules(text) - {"warning gpu-count", "error port-differs", "warning max-scale-unset"}
    assert found == wrong


@pytest.mark.parametrize(
    ("arguments", "gpus", "wrong"),
    [
        ("Qwen/Qwen3-8B --max-model-len 131072 -tp 8", 8, {"context"}),
        ("Qwen/Qwen3-8B --max-model-len 65536 --rope-scaling '{}' -tp 8", 8, set()),
        ("Qwen/Qwen3-8B --max-model-len 65536 --hf_overrides '{}' -tp 8", 8, set()),
        ("Qwen/Qwen3-8B", 1, {"kv-cache"}),
        ("Qwen/Qwen3-8B --max-model-len 32000 --kv-cache-dtype fp8", 1, set()),
        ("Qwen/Qwen2.5-7B-Instruct", 1, set()),  # the V1 engine of 0.8 on an A10
        ("Qwen/Qwen3-32B", 1, {"weights-size"}),
        ("Qwen/Qwen3-32B $MORE", 1, set()),
        ("Qwen/Qwen3-32B --cpu-offload-gb 60", 1, set()),
        ("Qwen/Qwen3-32B --quantization bitsandbytes", 1, set()),
        ("Qwen/Qwen3-32B -tp 2 -pp 4 --max-model-len 4096", 8, set()),
        ("Qwen/Qwen3-8B -dp 2 -tp 2 --data-parallel-size-local 1 --max-model-len 4k", 2, set()),
        ("Qwen/Qwen2.5-7B-Instruct -tp 8", 8, {"tensor-parallel"}),
    ],
)
def test_what_the_command_line_makes_possible(arguments: str, gpus: int, wrong: set[str]) -> None:
    command = f'[sh, -c, "exec vllm serve {arguments} --port 8080"]'
    text = SERVICE.replace("[vllm, serve, /models/q]", command)
    text = text.replace("RESOURCE", "nvidia.com/gpu").replace('"2"', f'"{gpus}"')
    found = lint_files([("a.yaml", text)], gpu="A10")
    assert {one.rule for one in found if one.level == "error"} == wrong
    assert not any("gpu_count" in one.fix or "max_model_len" in one.fix for one in found)


@pytest.mark.parametrize(
    ("image", "level"), [("vllm/vllm-openai:v1", "error"), ("a/b/vllm-openai:v1", "warning")]
)
def test_a_model_may_be_part_of_an_image_of_ones_own(image: str, level: str) -> None:
    text = SERVICE.replace("vllm/vllm-openai:v0.8.5", image).replace("RESOURCE", "nvidia.com/gpu")
    text = re.sub(" +volume.*\n", "", text.replace("command: [vllm, serve, ", "args: ["))
    found = {one.rule: one for one in lint_files([("a.yaml", text)])}
    assert found["model-path"].level == level


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("class", "ahpa.autoscaling.knative.dev", None),
        ("initial-scale", "0", "change spec.template.metadata.annotations.{}"),
        ("min-scale", "1', a: 1, b: '", "put the value in quotes"),
        ("window", "2h", "change spec.template.metadata.annotations.{}"),
    ],
)
def test_the_fix_names_the_field_and_a_class_of_ack_passes(
    name: str, value: str, fix: str | None
) -> None:
    name = f"autoscaling.knative.dev/{name}"
    good = SERVICE.replace("RESOURCE", "nvidia.com/gpu")
    marks = f"template:\n    metadata: {{annotations: {{{name}: '{value}'}}}}"
    found = {one.rule: one for one in lint_files([("a", good.replace("template:", marks))])}
    assert (found["admission"].fix if fix else found.get("admission")) == (fix and fix.format(name))


def volume(name: str, driver: str, secret: str = "", url: str = "") -> str:
    return (
        f"{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: {name}}}, spec: {{"
        "accessModes: [ReadOnlyMany], persistentVolumeReclaimPolicy: Retain, claimRef: {name: c}, "
        f"csi: {{driver: {driver}, volumeHandle: h, volumeAttributes: {{bucket: b, url: '{url}'}}, "
        f"nodePublishSecretRef: {{name: {secret or 's'}, namespace: default}}}}}}}}\n"
    )


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (volume("a", "x") + "---\n" + volume("b", "x"), {"pv-handle-shared"}),
        (volume("a", "x") + "---\n" + volume("b", "y"), set()),
        (
            volume("h", OSS, url="vpc100-oss-cn-hangzhou.aliyuncs.com")
            + "---\nkind: Secret\nmetadata: {name: pull}\ntype: kubernetes.io/dockerconfigjson\n",
            set(),
        ),
        (
            volume("h", OSS, url="oss-cn-beijing.aliyuncs.com")
            + "---\nkind: Secret\nmetadata: {name: other}\n",
            {"secret-reference", "oss-public-endpoint"},
        ),
        (
            "apiVersion: serving.knative.dev/v1beta1\nkind: Service\nmetadata: {name: a}",
            {"admission"},
        ),
    ],
)
def test_volumes_of_others(text: str, wrong: set[str]) -> None:
    found = lint_files([("a.yaml", text)])
    assert {one.rule for one in found} == wrong
    assert all(one.fix.startswith("write apiVersion") for one in found if "admission" in one.rule)


def test_flags_of_the_cluster_are_those_that_knative_ships() -> None:
    selects = SERVICE.replace("RESOURCE", "cpu") + "      nodeSelector: {a: b}\n"
    assert "error admission" in rules(selects)
    assert "error admission" not in rules(selects, features=ALL_FEATURES)
    assert "error admission" not in rules(SERVICE.replace("RESOURCE", "cpu"))


def test_lists_are_examined_item_by_item() -> None:
    item = "".join(f"  {line}\n" for line in SERVICE.splitlines()).replace("  ", "- ", 1)
    listed = f"apiVersion: v1\nkind: List\nitems:\n{item}"
    assert rules(listed) == rules(SERVICE)
    typed = listed.replace("kind: List", "kind: ServiceList").replace(
        "v1", "serving.knative.dev/v1", 1
    )
    assert rules(
        typed.replace("- apiVersion: serving.knative.dev/v1\n    kind: Service\n    m", "- m")
    )
    (port,) = [f for f in lint_files([("l.yaml", listed)]) if f.rule == "port-differs"]
    assert port.where.startswith("l.yaml:11 Service/a spec.")


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("a: [1", "error"),
        ("a: 1\na: 2", "error"),
        ("a: !Ref x", "error"),
        ("\x01", "error"),
        ("just words", "error"),
        ("[" * 3000, "warning"),
        ("a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\n" * 1, ""),
        ("a: &a [*a]", "warning"),
        ("[" + "1," * 20_001, "warning"),
        ("image: {{ .Values.image }}\n{{- if .x }}", "warning"),
        ("", ""),
        ("kind: Deployment\nspec: {replicas: x}", ""),
        ("kind: DomainMapping\napiVersion: serving.knative.dev/v1beta1", ""),
        ("kind: List\nitems: [1, {kind: List, items: []}]", "error"),
        ("kind: ConfigMap\ndata: {at: 2025-01-01T00:00:00Z, t: '{{ x }}'}", ""),
    ],
)
def test_what_cannot_be_read_is_a_finding(text: str, level: str) -> None:
    assert rules(text) == ({f"{level} unreadable"} if level else set())


def test_what_stands_before_a_mistake_is_examined() -> None:
    assert {"error port-differs", "error unreadable"} <= rules(f"{SERVICE}---\na: [1")


def test_two_files_belong_together() -> None:
    claim = "kind: PersistentVolumeClaim\nmetadata: {name: NAME}\nspec: {}\n"
    assert "warning pvc-missing" in rules(SERVICE, claim.replace("NAME", "other"))
    assert "warning pvc-missing" not in rules(SERVICE, claim.replace("NAME", "m"))


KEYS = """kind spec template containers command args env name value ports containerPort resources
limits image items metadata csi nvidia.com/gpu volumeMounts mountPath volumeAttributes driver"""
ODD = ["x", "vllm serve $A", "$(A)", "1", "{{ x }}", "0x1", "1e999", "on", "''", "~"]
odd = st.recursive(
    st.sampled_from(ODD) | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS.split()), inner, max_size=5)
    ),
    max_leaves=30,
)


@settings(max_examples=50, deadline=None)
@given(odd, st.lists(odd, max_size=3))
def test_no_shape_of_yaml_ends_lint(tree: Any, containers: list[Any]) -> None:
    service = {"kind": "Service", "apiVersion": "serving.knative.dev/v1", "metadata": {"name": "a"}}
    whole = {**service, "spec": {"template": {"spec": {"containers": containers}}}}
    volume = {"kind": "PersistentVolume", "spec": {"csi": tree}}
    for document in (
        tree,
        {**service, "spec": tree},
        whole,
        volume,
        {"kind": "List", "items": tree},
    ):
        for found in lint_files([("a", json.dumps(document))], gpu="V100-16"):
            assert found.level in ("error", "warning", "advice")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200) | st.text("{}[]:-&*!|>'\"#%\n a$(`\\", max_size=60))
def test_no_text_ends_lint(text: str) -> None:
    command = json.dumps(["sh", "-c", text])
    for file in (text, SERVICE.replace("[vllm, serve, /models/q]", command)):
        for found in lint_files([("a", file)]):
            assert found.message


def lint(*arguments: str, monkeypatch: pytest.MonkeyPatch, stdin: str = "") -> int:
    monkeypatch.setattr(sys, "argv", ["qwenkit", "lint", *arguments])
    return main()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    bad, good = tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text(SERVICE.replace("RESOURCE", "nvidia.com/gpu"))
    good.write_text("kind: ConfigMap\n")
    assert lint(str(good), str(bad), "--json", monkeypatch=monkeypatch) == 1
    found = json.loads(capsys.readouterr().out)
    assert {*found[0]} == {"level", "rule", "where", "message", "fix"}
    assert found[0]["where"].startswith(f"{bad}:8 Service/a spec.template.spec.containers[0]")
    assert lint(str(good), monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "error 0, warning 0, advice 0\n"
    assert lint(str(bad), monkeypatch=monkeypatch) == 1
    assert re.search(r"^error port-differs  .*\n  .*8000.*\n  fix: ", capsys.readouterr().out)


def test_a_terminal_gets_lines_that_are_no_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Finding("error", "admission", "a.yaml:8 Service/a spec", "word " * 30 + "\nmore", "fix")
    assert max(map(len, _block(found).splitlines())) > 80
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    head, *lines = _block(found).splitlines()
    assert head.startswith("error admission  a.yaml:8")
    assert all(line.startswith("  ") and len(line) <= 80 for line in lines)


def test_wrong_use_of_the_command(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\x00\x01")
    huge = tmp_path / "huge"
    huge.write_bytes(b"#" * 2**23)
    for arguments in (["absent"], [str(tmp_path)], []):
        assert lint(*arguments, monkeypatch=monkeypatch) == 2
    capsys.readouterr()
    for path, code, level in ((binary, 1, "error"), (huge, 0, "warning")):
        assert lint(str(path), "--json", monkeypatch=monkeypatch) == code
        assert json.loads(capsys.readouterr().out)[0]["level"] == level
    assert lint(str(binary), "--gpu", "B-52", monkeypatch=monkeypatch) == 2
    assert "V100-16" in capsys.readouterr().err
