"""Why a container ended, from the last words that real servers left in public reports.

``crashes.json`` and ``last-words.json`` hold the texts, with the report or source file of each.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qwenkit.cluster.diagnosis.causes.crashes import crash
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.last_words import last_errors, last_lines
from qwenkit.cluster.diagnosis.signatures import SIGNATURES, first_known
from qwenkit.cluster.diagnosis.snapshot import LogName, Snapshot

Case = dict[str, Any]
REPORTS = Path(__file__).parents[2] / "data" / "reports"
GIVEN: list[Case] = json.loads((REPORTS / "crashes.json").read_text("utf-8"))
TEXTS: list[Case] = json.loads((REPORTS / "last-words.json").read_text("utf-8"))


def explained(case: Case, *, reason: str = "Error", restarts: int = 3) -> Explanation:
    ended = {"exitCode": case["exit_code"], "reason": reason, "message": case.get("message")}
    pod = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "p", "labels": {"serving.knative.dev/service": "qwen"}},
        "status": {
            "containerStatuses": [
                {"name": "c", "restartCount": restarts, "lastState": {"terminated": ended}}
            ]
        },
    }
    logs = {LogName("p", "c", previous=True): case["log"]} if case["log"] else {}
    found = crash(Snapshot("qwen", (pod,), logs))
    assert found is not None
    return found


@pytest.mark.parametrize("case", GIVEN, ids=lambda case: case["name"])
def test_a_public_report_is_named(case: Case) -> None:
    found = explained(case)
    said = f"{found.cause} | {found.fix}"
    assert re.search(case["mention"], said, re.IGNORECASE), said
    assert not (case["never"] and re.search(case["never"], said, re.IGNORECASE)), said
    assert found.evidence[0] == case["log"].splitlines()[0]


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case["name"])
def test_the_last_error_decides(case: Case) -> None:
    found = explained(case)
    said = f"{found.cause} | {found.fix}"
    assert found.kind == case["kind"], said
    assert re.search(case.get("mention", ""), said, re.IGNORECASE), said
    assert "{" not in said
    if case["log"].strip():
        last = " ".join(case["log"].splitlines()[-1].split())
        shown = " ".join(found.evidence)
        assert last[:100] in shown or found.evidence[0] in last or last.endswith("^^")


def test_every_signature_is_tried_by_a_real_text() -> None:
    tried = set()
    for case in GIVEN + TEXTS:
        own, pointing = last_errors(case["log"])
        for text in own or pointing:
            tried.add(next((i for i, s in enumerate(SIGNATURES) if s.explain(text)), None))
    assert [s.kind for i, s in enumerate(SIGNATURES) if i not in tried] == []
    assert len(SIGNATURES) >= 45


DECORATIONS = {
    "kubelet": "2026-01-01T00:00:01.123456789Z {}",
    "runtime": "2026-01-01T00:00:01.123456789+08:00 stderr F {}",
    "colours": "\x1b[1;36m{}\x1b[0;0m",
    "crlf": "{}\r",
    "pod": "[pod/qwen-1/vllm] {}",
    "compose": "vllm-1  | {}",
}


@pytest.mark.parametrize("around", DECORATIONS.values(), ids=DECORATIONS)
def test_what_others_write_around_a_line_does_not_count(around: str) -> None:
    for case in (case for case in TEXTS if case["name"].startswith("noise-v")):
        log = "\n".join(around.format(line) for line in case["log"].splitlines())
        assert explained(case | {"log": log}).kind == case["kind"], case["name"]


def test_the_deciding_line_comes_first_and_then_the_last_ones() -> None:
    log = "ValueError: No available memory for the cache blocks.\n(APIServer pid=1) bye"
    found = explained({"exit_code": 1, "log": log})
    assert found.evidence == (
        "ValueError: No available memory for the cache blocks.",
        "restarted 3 times",
        "(APIServer pid=1) bye",
    )


def test_only_what_waiting_cannot_mend_is_permanent_at_once() -> None:
    flag = {"exit_code": 2, "log": "vllm: error: unrecognized arguments: --x"}
    assert explained(flag, restarts=0).permanent
    lost = {"exit_code": 1, "log": "OSError: [Errno 107] Transport endpoint is not connected"}
    assert [explained(lost, restarts=n).permanent for n in (0, 1, 2)] == [False, False, True]


def test_memory_limit_is_named_by_the_kubelet_not_by_the_log() -> None:
    found = explained({"exit_code": 137, "log": "INFO: loading\n"}, reason="OOMKilled")
    assert (found.kind, found.fix) == ("oom", "raise memory_limit")
    assert "137 (SIGKILL)" in found.cause


def test_a_signal_alone_is_not_blamed_on_a_probe() -> None:
    case = {"exit_code": 143, "log": "INFO 01-01 00:00:00 [a.py:1] loading\n"}
    assert explained(case).kind == "stopped"


def test_the_container_s_own_message_counts_where_there_is_no_log() -> None:
    said = 'exec: "python3 -m vllm": stat python3 -m vllm: no such file or directory: unknown'
    case = {"exit_code": 128, "log": "", "message": f"failed to create containerd task: {said}"}
    found = explained(case, reason="StartError")
    assert found.kind == "command-not-found"
    assert "one word" in found.cause


_WORDS = st.sampled_from(
    [
        "ERROR 01-01 00:00:00 [a.py:1] ",
        "ValueError: ",
        "(pid=1) ",
        "Traceback",
        "\n",
        "\r",
        "{",
        " ",
    ]
    + [part for case in TEXTS[::9] for part in case["log"].split()[:12]]
)


@given(st.one_of(st.text(), st.lists(_WORDS, max_size=60).map(" ".join)))
@example('{"a":' * 50_000)
@example("{1: null}\n{}\n[]\n" + '{"level": 1, "message": {"a": 1}}')
def test_any_log_is_read(log: str) -> None:
    own, pointing = last_errors(log)
    assert all(error.strip() for error in own + pointing)
    first_known(SIGNATURES, own + pointing + last_lines(log))


@pytest.mark.parametrize(
    "line",
    [
        "a" * 200,
        "a.a." * 50,
        "ERROR 01-01 00:00:00 [a.py:1] x",
        "ValueError: " + "Error: a" * 150,
        "/a: 1: exec: " + "a/" * 300,
        "(a pid=1) " * 40,
        "During handling of the above exception\nE: a",
    ],
)
def test_a_log_of_a_mebibyte_is_no_trap(line: str) -> None:
    """A regular expression that backtracks would take hours here, and the run its time limit."""
    log = (line + "\n") * (1_048_576 // (len(line) + 1))
    own, pointing = last_errors(log)
    first_known(SIGNATURES, own + pointing + last_lines(log))
