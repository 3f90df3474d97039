"""Bad input: a clear error that names the value and the fix, the right exit code, nothing lost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from qwenkit.sandbox import process, state_files


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("deploy", "--set", "servce=x"), "did you mean service?"),
        (("deploy", "--set", "delete_weights=no"), "must be true or false"),
        (("deploy", "--set", "namespace=0123_"), "DNS-1123"),
        (("deploy", "--set", "service=1qwen"), "DNS-1035"),
        (("deploy", "--set", "min_scale=5"), "must not exceed max_scale=3"),
        (("deploy", "--set", "max_scale"), "KEY=VALUE"),
        (("render", "--set", "scale_target=nan"), "scale_target"),
        (("render", "-p", "no-such.yaml"), "cannot be read"),
        (("upload", "modelscope:qwen/x", "bucket/prefix"), "oss://bucket/prefix"),
        (("run", "--only", "77"), "must be among 00"),
        (("sandbox", "up", "--gpus", "-1"), "--gpus"),
    ],
)
def test_wrong_use(qwenkit, words, said):
    result = qwenkit(*words)
    assert said in result.stdout + result.stderr
    assert result.returncode == (1 if "no-such.yaml" in words else 2)
    assert "Traceback" not in result.stderr


def test_json_errors_are_json(qwenkit):
    result = qwenkit("doctor", "--json", "--set", "servce=x")
    assert json.loads(result.stdout)["error"] == "SettingsError"
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("value", "rule"),
    [("delete_weights: 'false'", "bool"), ("namespace: 0123", "string"), ("min_scale: '1'", "int")],
)
def test_mistyped_params_file(qwenkit, tmp_path, value, rule):
    params = tmp_path / "params.yaml"
    params.write_text(value + "\n")
    result = qwenkit("render", "-p", str(params))
    assert result.returncode == 2
    assert value.split(":")[0] in result.stderr
    assert rule in result.stderr


def test_missing_credentials_name_the_variable(qwenkit):
    result = qwenkit("deploy", env={"OSS_ACCESS_KEY_SECRET": ""})
    assert result.returncode == 2
    assert "OSS_ACCESS_KEY_SECRET" in result.stderr
    assert "qwenkit sandbox env" in result.stderr


def test_wrong_bucket(qwenkit):
    result = qwenkit("upload", "modelscope:qwen/Qwen-7B-Chat-Int8", "oss://no-such-bucket/x")
    assert result.returncode == 1
    assert "no-such-bucket" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_keys_do_not_leak(qwenkit):
    secret = "surely-not-the-secret"
    result = qwenkit("doctor", "--json", env={"OSS_ACCESS_KEY_SECRET": secret})
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["bucket"]["verdict"] == "fail"
    assert "SignatureDoesNotMatch" in checks["bucket"]["why"] + checks["bucket"]["found"]
    assert secret not in result.stdout + result.stderr
    assert result.returncode == 1


def test_unreachable_endpoint(qwenkit):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        result = qwenkit(
            "upload",
            "modelscope:qwen/Qwen-7B-Chat-Int8",
            "oss://bucket/x",
            env={"OSS_ENDPOINT": f"http://127.0.0.1:{port}"},
        )
    assert result.returncode == 1
    assert str(port) in result.stderr


def test_a_context_that_is_not_there_lists_those_that_are(qwenkit):
    result = qwenkit("doctor", "--context", "production")
    assert result.returncode == 1
    assert "production" in result.stderr + result.stdout
    assert "sandbox" in result.stderr + result.stdout


def test_no_cluster_at_all(qwenkit, tmp_path):
    result = qwenkit("deploy", env={"KUBECONFIG": str(tmp_path / "none")})
    assert result.returncode == 1
    assert "qwenkit sandbox up" in result.stderr


def test_proxy_variables_do_not_matter_on_loopback(qwenkit):
    nowhere = "http://127.0.0.1:9"
    env = dict.fromkeys(
        ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), nowhere
    )
    assert qwenkit("doctor", env=env).returncode == 0


def test_an_object_of_the_same_name_that_is_not_ours_is_left_alone(qwenkit, environment, tmp_path):
    manifest = tmp_path / "theirs.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: theirs-oss}\n"
        "stringData: {akId: a, akSecret: b}\n"
    )
    kubectl = ["kubectl", "--cache-dir", str(tmp_path / "cache")]
    apply = [*kubectl, "apply", "--server-side", "--validate=false", "-f", str(manifest)]
    subprocess.run(apply, env=environment, check=True, capture_output=True)
    result = qwenkit("deploy", "--set", "volume=theirs")
    assert result.returncode == 1
    assert "theirs-oss" in result.stderr
    get = [*kubectl, "get", "secret", "theirs-oss", "-o", "jsonpath={.data.akId}"]
    kept = subprocess.run(get, env=environment, check=True, capture_output=True, text=True)
    assert kept.stdout == "YQ=="
    subprocess.run([*kubectl, "delete", "secret", "theirs-oss"], env=environment, check=True)


def test_pvc_feature_off_is_explained(qwenkit, environment, tmp_path):
    def flag(value):
        patch = json.dumps({"data": {"kubernetes.podspec-persistent-volume-claim": value}})
        command = ["kubectl", "--cache-dir", str(tmp_path / "cache"), "-n", "knative-serving"]
        command += ["patch", "configmap", "config-features", "--type=merge", "-p", patch]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    flag("disabled")
    try:
        result = qwenkit("deploy", "--set", "service=flagless", "--set", "volume=flagless")
        doctor = qwenkit("doctor")
    finally:
        flag("enabled")
    assert result.returncode == 1
    assert "Persistent volume claim support is disabled" in result.stderr
    assert "config-features" in result.stderr
    assert doctor.returncode == 1
    down = qwenkit("teardown", "--set", "service=flagless", "--set", "volume=flagless")
    assert down.returncode == 0


def test_a_service_that_never_gets_ready_ends_at_its_deadline(qwenkit):
    own = ("--set", "service=slow", "--set", "volume=slow", "--set", "timeout_s=8")
    result = qwenkit(
        "deploy", *own, "--set", "command=sleep 1000", "--set", "progress_deadline=600s"
    )
    assert result.returncode == 1
    assert "slow" in result.stderr
    assert "fix:" in result.stderr
    assert qwenkit("teardown", "--now", *own[:4], "--set", "timeout_s=60").returncode == 0


def test_port_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [
            sys.executable,
            "-m",
            "qwenkit",
            "sandbox",
            "up",
            "--detach",
            "--root",
            tmp_path / "s",
        ]
        result = subprocess.run(
            [*command, "--oss-port", port], capture_output=True, text=True, timeout=60
        )
    assert result.returncode == 1
    assert port in result.stderr


def test_sandbox_already_running(sandbox):
    command = [sys.executable, "-m", "qwenkit", "sandbox", "up", "--detach", "--root", sandbox]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "already running" in result.stderr
    assert state_files.find(sandbox) is not None


def test_a_folder_that_is_not_a_sandbox_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, "-m", "qwenkit", "sandbox"]
    for verb in (["up", "--detach"], ["down"]):
        subprocess.run([*command, *verb, "--root", tmp_path], capture_output=True, timeout=60)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_down_leaves_no_process_and_no_file(tmp_path):
    root = tmp_path / "root"
    pid = process.up(root).pid
    assert process.down(root)
    assert not root.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not process.down(root)
