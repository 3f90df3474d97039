"""``qwenkit load``: its options, its files and its exit codes, against a small server."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pyarrow.parquet
import pytest
from inference_server import HOST, PIECES, Vllm, serving

from qwenkit import steps
from qwenkit.cli import main
from qwenkit.inference.client import Server
from qwenkit.inference.load.bodies import Bodies
from qwenkit.inference.load.sweep import sweep
from qwenkit.inference.results import LoadResult

Run = Callable[..., tuple[int, dict[str, object]]]


@pytest.fixture
def vllm() -> Vllm:
    return Vllm()


@pytest.fixture
def load(
    vllm: Vllm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the command; return its exit code and its JSON."""
    with serving(vllm) as url:
        server = Server(url, HOST, model="qwen")
        monkeypatch.setattr(steps, "find_server", lambda _: server)

        def run(*words: str) -> tuple[int, dict[str, object]]:
            monkeypatch.setattr(sys, "argv", ["qwenkit", "load", "--json", *words])
            code = main.main()
            return code, json.loads(capsys.readouterr().out)

        yield run
        server.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--clients 2 --rate 3", "does not go with --rate"),
        ("--clients 2 --trace x.csv", "does not go with --trace"),
        ("--rate 2 --trace x.csv", "does not go with --trace"),
        ("--arrivals burst", "needs --rate"),
        ("--like vllm-bench --requests 3", "needs --rate"),
        ("--like vllm-bench --rate 3", "needs --requests"),
        ("--rate 3 --requests 3", "needs --like"),
        ("--rate 3 --burstiness 2", "needs --like"),
        ("--rate 3 --like vllm-bench --requests 3 --seconds 9", "does not go with --seconds"),
        ("--rate 3 --like vllm-bench --requests 3 --arrivals burst", "does not go with"),
        ("--sweep --trace x.csv", "does not go with --trace"),
        ("--sweep --records x.csv", "does not go with --records"),
        ("--records x.txt", "must end in .csv, .json, .parquet"),
        ("--records /no/such/folder/x.csv", "folder that exists"),
        ("--rate nan", "more than 0"),
        ("--rate 1 --spread 11", "0 to 10"),
        ("--trace /no/such/file", "No such file"),
        ("--clients 0", ""),
        ("--like ab", ""),
    ],
)
def test_what_does_not_go_together_is_wrong_use(load: Run, words: str, said: str) -> None:
    code, answer = load(*words.split())
    assert code == 2
    assert said in str(answer.get("why"))


def test_every_file_has_every_request(load: Run, vllm: Vllm, tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, object]]] = {}
    for ending in ("csv", "json", "parquet"):
        path = tmp_path / f"records.{ending}"
        words = "--rate 100 --arrivals constant --seconds 0.1 --prompt-tokens 30 --answer-tokens 5"
        code, figures = load(*words.split(), "--ttft-slo", "9", "--records", str(path))
        assert (code, figures["ok"], figures["requests"]) == (0, 10, 10)
        assert figures["goodput"] == {
            "requests_per_second": figures["requests_per_second"],
            "share": 1.0,
        }
        if ending == "csv":
            rows[ending] = list(csv.DictReader(StringIO(path.read_text("utf-8"))))
        elif ending == "json":
            rows[ending] = json.loads(path.read_text("utf-8"))["requests"]
        else:
            table = pyarrow.parquet.read_table(path)
            assert table.schema.metadata[b"clock"] == b"1"
            rows[ending] = table.to_pylist()
    assert [len(found) for found in rows.values()] == [10, 10, 10]
    for name in rows["json"][0]:
        assert {name in row for found in rows.values() for row in found} == {True}
    assert [float(row["scheduled_s"]) for row in rows["csv"]] == [
        row["scheduled_s"] for row in rows["parquet"]
    ]
    assert [len(str(row["token_s"]).split()) for row in rows["csv"]] == [3] * 10
    assert [len(row["token_s"]) for row in rows["parquet"]] == [3] * 10
    assert {body["max_tokens"] for body in vllm.bodies} == {5}
    assert {len(body["messages"][0]["content"].split()) for body in vllm.bodies} == {20}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is Linux's /dev/full")
@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_a_full_disk_loses_no_figures(load: Run, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"records.{ending}"
    path.symlink_to("/dev/full")
    code, figures = load("--clients", "1", "--seconds", "0.1", "--records", str(path))
    assert (code, figures["ok"]) == (1, figures["requests"])
    assert "No space left" in figures["records"]["why"]


def test_a_ramp_begins_with_few(load: Run, tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    words = f"--rate 200 --arrivals ramp --seconds 0.4 --records {path}"
    assert load(*words.split())[0] == 0
    due = [one["scheduled_s"] for one in json.loads(path.read_text("utf-8"))["requests"]]
    assert 2 * sum(at < 0.2 for at in due) < sum(at >= 0.2 for at in due)


def test_a_trace_keeps_its_own_lengths(load: Run, vllm: Vllm, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("at,prompt,answer\n100,15,3\n100.05,40,7\n200,40,7\n")
    code, figures = load("--trace", str(trace), "--seconds", "1")
    assert (code, figures["ok"]) == (0, 2)
    assert [body["max_tokens"] for body in vllm.bodies] == [3, 7]
    trace.write_text("0,15,3\n1,999999999999,3\n")
    code, answer = load("--trace", str(trace))
    assert (code, answer["name"]) == (2, "trace line 2, column 2")
    assert "0 to 10,000,000" in answer["why"]


def test_the_same_seed_sends_the_same(load: Run, vllm: Vllm) -> None:
    words = "--rate 40 --like vllm-bench --requests 5 --burstiness 2 --prompt-tokens 20 --seed"
    for seed in ("1", "1", "2"):
        assert load(*words.split(), seed)[0] == 0
    first, again, other = vllm.bodies[:5], vllm.bodies[5:10], vllm.bodies[10:]
    assert first == again != other


def test_a_sweep_ends_at_the_knee(load: Run, vllm: Vllm) -> None:
    vllm.delay_s, vllm.slots = 0.005, 2
    code, answer = load("--sweep", "--seconds", "0.3")
    assert code == 0
    levels = [step["level"] for step in answer["steps"]]
    assert levels == [1, 2, 4, 8][: len(levels)]
    assert answer["knee"] in (1, 2, 4)
    assert "the knee is at" in answer["why"]


def test_an_interrupt_ends_the_sweep() -> None:
    stopped = LoadResult((), 1.0, began=0.0, ended_early="ended early: it was stopped")
    found = sweep("clients", [1, 2], lambda _: stopped)
    assert (found.knee, len(found.steps)) == (None, 1)
    assert found.why == "ended early: it was stopped, at 1 clients"


def test_failures_exit_1_and_say_why(load: Run, vllm: Vllm) -> None:
    vllm.status = 503
    code, figures = load("--clients", "1", "--seconds", "0.1")
    assert code == 1
    assert "no pod answers" in figures["causes"]["http 503"]
    code, answer = load("--sweep", "--seconds", "0.1")
    assert (code, answer["knee"]) == (1, None)


def test_a_load_whose_thread_died_is_an_error(load: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("as an example")

    monkeypatch.setattr(Bodies, "make", fail)
    code, answer = load("--clients", "1", "--seconds", "0.1")
    assert (code, answer["what"]) == (1, "the load broke off")
    assert answer["why"] == "RuntimeError: as an example"


def test_parquet_wants_its_package(load: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, answer = load("--records", "x.parquet")
    assert code == 1
    assert "qwenkit[course]" in answer["fix"]


@pytest.mark.parametrize("stream", ["", "--stream"])
def test_query_says_that_reasoning_used_up_the_budget(
    load: Run,
    vllm: Vllm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stream: str,
) -> None:
    vllm.reasons = True
    monkeypatch.setattr(
        sys, "argv", ["qwenkit", "query", "x", "--max-tokens", "3", *stream.split()]
    )
    assert main.main() == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == ""
    assert "".join(PIECES) in shown.err
    assert "its 3 tokens were used up by reasoning" in shown.err


def test_query_says_that_a_model_only_reasoned(
    load: Run, vllm: Vllm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = {"content": None, "reasoning": "hm"}
    choice = {"message": message, "finish_reason": "stop"}
    vllm.odd = json.dumps({"choices": [choice]}).encode()
    monkeypatch.setattr(sys, "argv", ["qwenkit", "query", "x"])
    assert main.main() == 0
    shown = capsys.readouterr().err
    assert "no answer: it ended with its reasoning (finish_reason: stop)" in shown
    assert "used up" not in shown
