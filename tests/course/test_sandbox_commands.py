"""``qwenkit sandbox``: what each command prints, and that it ends as it should."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import oss2
import pytest

from qwenkit.sandbox import process, state_files

COMMAND = [sys.executable, "-m", "qwenkit", "sandbox"]


def ask(*words, **how):
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=60, **how
    )


def test_status_says_where_everything_listens(sandbox):
    shown = ask("status", "--root", sandbox)
    assert shown.returncode == 0
    found = state_files.running(sandbox)
    for address in (found.api, found.gateway, found.oss, found.hub):
        assert address in shown.stdout
        assert "127.0.0.1" in address
    assert json.loads(ask("status", "--root", sandbox, "--json").stdout)["pid"] == found.pid


def test_status_of_nothing_exits_1(tmp_path):
    assert ask("status", "--root", tmp_path / "none").returncode == 1


def test_env_prints_exports_that_a_shell_reads(sandbox):
    lines = ask("env", "--root", sandbox).stdout.splitlines()
    pairs = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    assert pairs == process.environment(sandbox)
    assert set(pairs) >= {
        "KUBECONFIG",
        "OSS_ACCESS_KEY_ID",
        "OSS_ACCESS_KEY_SECRET",
        "OSS_ENDPOINT",
        "OSS_REGION",
        "OSS_BUCKET",
        "QWENKIT_CONTEXT",
    }
    assert ask("env", "--root", sandbox / "nothing").returncode == 1


def test_a_sandbox_can_be_like_kind_and_its_status_says_so(tmp_path):
    root = tmp_path / "new" / "root"
    up = ("up", "--root", root, "--gpus", 0, "--no-oss-driver", "--detach")
    try:
        assert "no GPU; no OSS driver" in ask(*up).stdout
        assert "no GPU; no OSS driver" in ask("status", "--root", root).stdout
        options = json.loads(ask("status", "--root", root, "--json").stdout)["options"]
        assert (options["gpus"], options["oss_driver"]) == (0, False)
        assert "QWENKIT_GPU" not in process.environment(root)
    finally:
        ask("down", "--root", root)
    assert not root.exists()


def test_private_files_are_for_their_owner_alone(sandbox):
    for name in ("keys.json", "kubeconfig"):
        assert (sandbox / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_runs_until_told_to_stop(tmp_path, number):
    root = tmp_path / "root"
    with subprocess.Popen(
        [*COMMAND, "up", "--root", root], stdout=subprocess.PIPE, text=True
    ) as up:
        assert "sandbox" in up.stdout.readline()
        wait_until(lambda: state_files.find(root))
        up.send_signal(number)
        assert up.wait(timeout=60) == 0
    assert state_files.find(root) is None
    process.down(root)


def test_a_crashed_sandbox_comes_up_again_with_its_objects(tmp_path):
    root = tmp_path / "root"
    first = process.up(root)
    (root / "oss" / state_files.BUCKET / "kept.txt").write_text("kept")
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: state_files.find(root) is None)
    process.up(root)
    try:
        env = process.environment(root)
        auth = oss2.AuthV4(env["OSS_ACCESS_KEY_ID"], env["OSS_ACCESS_KEY_SECRET"])
        assert bucket(auth, env["OSS_ENDPOINT"]).get_object("kept.txt").read() == b"kept"
    finally:
        process.down(root)


def test_the_oss_server_alone(tmp_path):
    keys = {"OSS_ACCESS_KEY_ID": "an-id", "OSS_ACCESS_KEY_SECRET": "a-secret"}
    command = [*COMMAND, "oss", "--root", tmp_path, "--port", "0", "--bucket", state_files.BUCKET]
    with subprocess.Popen(
        command, env=os.environ | keys, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        address = server.stdout.readline().removeprefix("oss: ").strip()
        store = bucket(oss2.Auth("an-id", "a-secret"), address)
        store.put_object("a/b.txt", b"bytes")
        assert (tmp_path / state_files.BUCKET / "a" / "b.txt").read_bytes() == b"bytes"
        (tmp_path / state_files.BUCKET / "dropped.txt").write_text("by hand")
        assert store.get_object("dropped.txt").read() == b"by hand"
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "a-secret" not in out + err


def test_the_oss_server_alone_wants_its_keys(tmp_path):
    result = ask("oss", "--root", tmp_path, "--port", "0")
    assert result.returncode == 2
    assert "OSS_ACCESS_KEY_ID" in result.stderr


def bucket(auth, address):
    session = oss2.Session()
    session.session.trust_env = False
    return oss2.Bucket(
        auth, address, state_files.BUCKET, session=session, region=state_files.REGION
    )


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
