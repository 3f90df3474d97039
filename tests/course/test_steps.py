"""The documentation's way, step by step, as a person would walk it by hand."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time

import oss2
import pytest

from qwenkit.sandbox import process
from qwenkit.sandbox.faults.catalogue import parse
from qwenkit.sandbox.faults.client import call

QUICK = ("--set", "stable_window=6s", "--set", "timeout_s=60")
# Seconds after the first requests, and what happens then.
FAULTS = (
    (1.2, {"where": "pod", "what": "oom", "name": "qwen-0"}),  # none of the load's own pods
    (1.6, {"where": "api", "what": "restart", "seconds": 1.0}),
    (2.4, {"where": "gateway", "what": "restart", "seconds": 0.4}),
)


def keys(root):
    env = process.environment(root)
    return (
        env["OSS_ACCESS_KEY_ID"],
        env["OSS_ACCESS_KEY_SECRET"],
        env["OSS_ENDPOINT"],
        env["OSS_BUCKET"],
    )


def bucket(root, auth):
    _, _, endpoint, name = keys(root)
    session = oss2.Session()
    session.session.trust_env = False
    return oss2.Bucket(auth, endpoint, name, session=session, region="cn-hangzhou")


def kubectl(environment, tmp_path, *words):
    found = shutil.which("kubectl")
    assert found, "kubectl must be on the PATH (Debian: apt-get install kubernetes-client)"
    command = [found, "--cache-dir", str(tmp_path / "cache"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kind", [oss2.Auth, oss2.AuthV4])
def test_oss2_puts_lists_and_gets_with_both_signatures(sandbox, kind):
    key_id, key_secret, _, _ = keys(sandbox)
    store = bucket(sandbox, kind(key_id, key_secret))
    store.put_object("hello/西湖.txt", "杭州".encode())
    assert [item.key for item in oss2.ObjectIteratorV2(store, prefix="hello/")] == [
        "hello/西湖.txt"
    ]
    assert store.get_object("hello/西湖.txt").read() == "杭州".encode()
    store.delete_object("hello/西湖.txt")


def test_wrong_keys_are_refused_as_oss_refuses_them(sandbox):
    key_id, key_secret, _, _ = keys(sandbox)
    with pytest.raises(oss2.exceptions.SignatureDoesNotMatch) as refused:
        bucket(sandbox, oss2.Auth(key_id, key_secret + "x")).get_bucket_info()
    assert refused.value.status == 403
    with pytest.raises(oss2.exceptions.ServerError) as unknown:
        bucket(sandbox, oss2.AuthV4("nobody", key_secret)).get_bucket_info()
    assert (unknown.value.status, unknown.value.code) == (403, "InvalidAccessKeyId")


def test_the_whole_way_by_commands(qwenkit, environment, tmp_path, sandbox):
    name = environment["OSS_BUCKET"]
    source, target = "modelscope:qwen/Qwen-7B-Chat-Int8", f"oss://{name}/Qwen-7B-Chat-Int8"

    doctor = qwenkit("doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    found = {check["name"]: check["verdict"] for check in json.loads(doctor.stdout)["checks"]}
    # At full scale no GPU is spare, and an image is known once it was pulled.
    assert (found.pop("rollout"), found.pop("image") in ("ok", "unknown")) == ("warn", True)
    assert set(found.values()) <= {"ok", "not applicable"}, doctor.stdout

    first = json.loads(qwenkit("upload", source, target, "--json").stdout)
    assert {file["action"] for file in first["files"]} == {"uploaded"}
    second = json.loads(qwenkit("upload", source, target, "--json").stdout)
    assert {file["action"] for file in second["files"]} == {"skipped"}
    assert second["bytes_sent"] == 0

    signature = sandbox / "oss" / name / "Qwen-7B-Chat-Int8" / "model.sig"
    signature.write_text("{}")
    refused = qwenkit("deploy", *QUICK)
    assert (refused.returncode, "model.sig cannot be compared" in refused.stderr) == (1, True)
    signature.unlink()
    deployed = qwenkit("deploy", *QUICK, "--json")
    assert deployed.returncode == 0, deployed.stderr
    answer = json.loads(deployed.stdout)
    assert set(answer) == {
        "service", "namespace", "revision", "url", "host", "gateway", "ready_seconds",
    }  # fmt: skip
    assert answer["host"] == "qwen.default.example.com"
    again = json.loads(qwenkit("deploy", *QUICK, "--json").stdout)
    assert again["revision"] == answer["revision"], "a second deploy must not make a revision"

    check_curl(answer)
    check_load(qwenkit, tmp_path)
    check_load_in_trouble(environment, sandbox, tmp_path)
    check_kubectl(environment, tmp_path)

    down = qwenkit("teardown", "--set", "delete_weights=true", *QUICK, "--json")
    assert down.returncode == 0, down.stdout + down.stderr
    assert json.loads(down.stdout)["leaks"]["found"] == []
    assert qwenkit("teardown", "--set", "delete_weights=true", *QUICK).returncode == 0
    secret = environment["OSS_ACCESS_KEY_SECRET"]
    for result in (doctor, deployed, down):
        assert secret not in result.stdout + result.stderr
    assert secret not in (sandbox / "log").read_text()


def check_load(qwenkit, folder):
    """Load with an open loop, and read the records."""
    records = folder / "records.csv"
    words = "--rate 20 --arrivals constant --seconds 0.5 --prompt-tokens 40 --answer-tokens 3"
    done = qwenkit("load", *words.split(), "--records", str(records), "--ttft-slo", "9", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert (figures["requests"], figures["ok"], figures["goodput"]["share"]) == (10, 10, 1)
    rows = list(csv.DictReader(io.StringIO(records.read_text("utf-8"))))
    assert len(rows) == 10
    # About as many tokens as asked for: words that are one token each, in a chat's template.
    assert {int(row["prompt_tokens"]) for row in rows} <= set(range(36, 45))
    assert sum(int(row["tokens"]) for row in rows) == figures["tokens"] == 30


def check_load_in_trouble(environment, sandbox, folder):
    """Load through faults, and from inside the cluster when they are over."""

    def start(*words):
        command = [sys.executable, "-m", "qwenkit", "load", "--json", *words]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def inject(fault):
        call(sandbox, "POST", parse(fault).model_dump())

    def ended(process, code):
        out, errors = process.communicate(timeout=60)
        assert process.returncode == code, out + errors
        figures = json.loads(out)
        parts = ("ok", "failed", "cancelled")
        assert figures["requests"] == sum(figures[part] for part in parts) > 0
        assert figures["failed"] == sum(figures["errors"].values())
        return figures

    records = folder / "in-trouble.json"
    # Of so many clients that are not in step, some are in the middle of an answer at any moment.
    words = ("--clients=12", "--seconds=4", "--answer-tokens=30", "--spread=0.7")
    inject({"where": "gateway", "what": "503", "times": 5})
    with start(*words, f"--records={records}") as here:
        while not call(sandbox, "GET")[-1]["hits"]:
            assert here.poll() is None
            time.sleep(0.05)
        begun = time.monotonic()
        pods = ("--in-cluster", "--workers=2", "--clients=3", "--seconds=0.5", "--start-in=12")
        with start(*pods) as job:
            for at, fault in FAULTS:
                time.sleep(max(0.0, begun + at - time.monotonic()))
                inject(fault)
            disturbed = ended(here, 1)
            from_pods = ended(job, 0)
    assert {"http 503", "cut"} <= disturbed["errors"].keys()
    assert disturbed["errors"].keys() <= {"http 502", "http 503", "cut", "no connection"}
    rows = json.loads(records.read_text())["requests"]
    assert [row["number"] for row in rows] == list(range(disturbed["requests"]))
    assert rows[-1]["outcome"] == "ok", "it goes on when the faults are over"
    cut = [row for row in rows if row["why"] == "cut"]
    assert any(row["token_s"] and row["pod"] for row in cut), "what came before is kept"
    assert (from_pods["ok"], from_pods["clients"]) == (from_pods["requests"], 3)
    assert sum(from_pods["served_by"].values()) == from_pods["ok"]


def check_curl(deployed):
    """Send the documentation's request and compare with the documentation's answer."""
    body = {
        "model": "qwen",
        "messages": [{"role": "user", "content": "杭州西湖"}],
        "max_tokens": 10,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 10,
    }
    curl = shutil.which("curl")
    assert curl, "curl must be on the PATH"
    command = [curl, "-sS", "--noproxy", "*", "-H", f"Host: {deployed['host']}"]
    command += ["-H", "Content-Type: application/json"]
    command += [f"{deployed['gateway']}/v1/chat/completions", "-d", json.dumps(body)]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "qwen"
    choice = answer["choices"][0]
    assert list(choice) == ["index", "message", "logprobs", "finish_reason", "stop_reason"]
    assert choice["message"]["content"] == "西湖位于中国浙江省杭州市,是中国著名的风景名"
    assert choice["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 10, "total_tokens": 20, "completion_tokens": 10}
    lost = [
        curl,
        "-sS",
        "--noproxy",
        "*",
        "-o",
        os.devnull,
        "-w",
        "%{http_code}",
        deployed["gateway"],
    ]
    assert subprocess.run(lost, capture_output=True, check=True).stdout == b"404"


def check_kubectl(environment, tmp_path):
    """Show what the course made, apply something beside it, and delete it again."""
    shown = kubectl(environment, tmp_path, "get", "ksvc,rev,pods,pv,pvc")
    assert shown.returncode == 0, shown.stderr
    for what in ("service.serving.knative.dev/qwen", "qwen-00001", "2/2", "llm-model", "Bound"):
        assert what in shown.stdout
    manifest = tmp_path / "map.yaml"
    manifest.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine}\ndata: {a: b}\n")
    apply = ("apply", "--server-side", "--validate=false", "-f", str(manifest))
    assert kubectl(environment, tmp_path, *apply).returncode == 0
    assert kubectl(environment, tmp_path, "delete", "configmap", "mine").returncode == 0
    assert kubectl(environment, tmp_path, "get", "configmap", "mine").returncode == 1
