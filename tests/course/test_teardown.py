"""A container that ignores SIGTERM, and what a killed run leaves: torn down by commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

NAMES = ("--set", "service=deaf", "--set", "volume=deaf", "--set", "run=deaf")
# As process 1, `sleep` has no handler for SIGTERM, like Python while it loads a model.
DEAF = (*NAMES, "--set", "command=sleep infinity")


def leave(qwenkit, *more):
    """Deploy what never becomes ready, and leave it there."""
    done = qwenkit("deploy", *DEAF, "--set", "timeout_s=3", *more)
    assert "Running, not ready" in done.stderr, done.stderr


def test_a_container_that_ignores_sigterm_delays_only_what_needs_it(qwenkit, environment):
    leave(qwenkit)
    late = qwenkit("teardown", *NAMES, "--set", "teardown_timeout_s=2", "--json")
    answer = json.loads(late.stdout)
    assert late.returncode == 1, late.stderr
    assert answer["error"]["error"] == "WaitTimeout"
    assert "--now" in answer["error"]["fix"]
    removed = [step["name"] for step in answer["removed"]["steps"] if step["removed"]]
    assert removed == ["ksvc deaf", "secret deaf-oss"]
    assert {text.partition("/")[0] for text in answer["leaks"]["found"]} == {"pvc", "pv", "pod"}

    command = [sys.executable, "-m", "qwenkit", "teardown", *NAMES]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        while "is Terminating, at most" not in (line := waiting.stderr.readline()):
            assert line, "it ended before it said what it waits for"
        waiting.send_signal(signal.SIGTERM)
        out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "left: pvc/deaf" in out
    assert "run teardown again" in err

    began = time.monotonic()
    now = qwenkit("teardown", *NAMES, "--now", "--json")
    assert now.returncode == 0, now.stderr
    assert json.loads(now.stdout)["leaks"] == {"found": [], "unknown": []}
    assert time.monotonic() - began < 25, "the rest of the grace period was waited for"


def test_what_has_expired_goes_and_nothing_else(qwenkit):
    leave(qwenkit, "--set", "expires_after=1s")
    kept = ("--set", "volume=kept", "--set", "service=kept", "--set", "run=kept")
    qwenkit("deploy", *DEAF, *kept, "--set", "timeout_s=1", "--set", "expires_after=9h")
    gone = qwenkit("teardown", "--expired", "--now", "--json")
    assert gone.returncode == 0, gone.stderr
    answer = json.loads(gone.stdout)
    removed = {step["name"] for step in answer["removed"]["steps"] if step["removed"]}
    assert removed == {"ksvc deaf", "pvc deaf", "pv deaf", "secret deaf-oss"}
    assert answer["leaks"] == {"found": [], "unknown": []}
    rest = json.loads(qwenkit("teardown", *kept, "--now", "--json").stdout)
    removed = {step["name"] for step in rest["removed"]["steps"] if step["removed"]}
    assert removed >= {"ksvc kept", "pvc kept", "pv kept", "secret kept-oss"}
    assert rest["leaks"]["found"] == []
