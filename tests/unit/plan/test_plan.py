"""``qwenkit plan``: the answer, its three forms, and every question that cannot be."""

from __future__ import annotations

import json
import re

import pytest
from places import DATA

from qwenkit.capacity.band import Band
from qwenkit.cli import main
from qwenkit.errors import InvalidValue
from qwenkit.manifests.render import render
from qwenkit.plan import report
from qwenkit.plan.planner import make_plan
from qwenkit.plan.question import Question
from qwenkit.settings import Settings

KEYS = {
    *("gpu", "model", "traffic", "notes", "prompt_tokens", "answer_tokens", "startup_s", "gpus"),
    *(
        "price_per_gpu_hour",
        "price_is_example",
        "currency",
        "objective",
        "memory",
        "speed",
        "scaling",
    ),
    *("advice", "simulation", "recommendation", "why_no_recommendation"),
    *("autoscalers", "alternatives", "gpu_count", "cold_start"),
}


def ask(settings=None, **question):
    return make_plan(settings or Settings(), Question(**{"recommend": False} | question))


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs ``qwenkit plan`` and gives exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["qwenkit", "plan", *words])
        code = main.main()
        return code, *capsys.readouterr()

    return run


def test_what_is_simulated_is_what_would_be_deployed():
    settings = Settings.load(
        text={"scale_target": "5", "container_concurrency": "4", "stable_window": "30s"}
    )
    plan = ask(settings, clients=3)
    template = render(settings)[-1]["spec"]["template"]
    assert plan.annotations == template["metadata"]["annotations"]
    assert (plan.spec.total, plan.spec.container_concurrency) == (4, 4)
    assert plan.spec.stable_window_s == 30


def test_the_simulation_tells_when_and_why_replicas_changed():
    plan = ask(clients=6)
    changes = plan.outcome.result.changes
    assert [(change.before, change.after) for change in changes] == [
        (0, 1), (1, 3), (3, 2), (2, 1), (1, 0),
    ]  # fmt: skip
    assert changes[0].t == 0
    assert "panic: 6 s mean concurrency" in changes[1].reason
    assert "to zero" in changes[-1].reason
    assert max(plan.outcome.result.ready) == 3


def test_the_end_of_the_retention_is_a_change_too():
    retention = {"scale_to_zero_pod_retention_period": "90s"}
    plain, kept = ask(clients=1), ask(Settings.load(text=retention), clients=1)
    assert kept.outcome.result.changes[-1].after == 0
    assert kept.outcome.result.changes[-1].t == pytest.approx(
        plain.outcome.result.changes[-1].t + 90, abs=4
    )
    assert kept.outcome.result.gpu_seconds > plain.outcome.result.gpu_seconds + 80


def test_each_kind_of_traffic_is_simulated():
    assert ask(rate_per_s=0.5, seconds=300).outcome.result.requests.answered == pytest.approx(
        150, rel=0.3
    )
    traced = ask(trace="t,in,out\n10,100,50\n11.5,300\n12\n", answer_tokens=70)
    assert traced.outcome.result.requests.answered == 3
    assert traced.traffic.name == "3 requests of a trace in 2 s"
    assert (
        traced.traffic.load.lengths.prompt_tokens,
        traced.traffic.load.lengths.output_tokens,
    ) == (219, 63)
    assert ask(trace="0\n5\n400\n", seconds=100).outcome.result.requests.answered == 2
    course = Settings().load_clients
    assert ask().traffic.name == f"{course} closed-loop clients for 600 s"


def test_the_price_and_the_cold_start_are_those_that_were_given():
    cheap = ask(clients=2, price_per_gpu_hour=1, startup_s=10)
    dear = ask(clients=2, price_per_gpu_hour=10, startup_s=10)
    assert dear.outcome.result.cost == pytest.approx(10 * cheap.outcome.result.cost)
    assert cheap.outcome.result.ready[11] == 1
    assert cheap.outcome.result.ready[9] == 0
    assert ask(clients=2).price_is_example
    assert not cheap.price_is_example


def test_a_recommendation_keeps_the_objective_and_can_be_deployed_as_it_is():
    plan = ask(rate_per_s=1.5, ttft_p95_s=2.0, gpus=3, recommend=True)
    (missed,) = plan.outcome.misses
    assert missed.startswith("TTFT p95 ")
    better = plan.better
    assert better.outcome.misses == ()
    assert better.outcome.verdict.ttft_p95_s < 2 < plan.outcome.verdict.ttft_p95_s
    pairs = re.findall(r"--set (\w+)=(\S+)", report.commands(better))
    again = Settings.load(text=dict(pairs))
    annotations = render(again)[-1]["spec"]["template"]["metadata"]["annotations"]
    assert dict(better.recommendation.annotations).items() <= dict(annotations).items()
    assert ask(again, rate_per_s=1.5, gpus=3).outcome.verdict.ttft_p95_s == pytest.approx(
        better.outcome.verdict.ttft_p95_s
    )
    assert all(each.why for each in better.parameters)


def test_an_overload_is_a_forecast_unless_an_objective_was_named():
    settings = Settings.load(text={"max_scale": "1", "request_timeout_s": "60"})
    overload = {"rate_per_s": 30, "seconds": 60, "gpus": 1, "recommend": True}
    plan = ask(settings, **overload)
    assert plan.better is None
    assert "share of failed requests" in plan.why_not_better
    assert plan.outcome.result.requests.failed(504) > 0
    with pytest.raises(InvalidValue) as impossible:
        ask(settings, ttft_p95_s=1.0, **overload)
    assert impossible.value.name == "objective"


def test_a_model_that_does_not_fit_is_an_answer(command):
    words = ("--set", "gpu=T4", "--set", "model_source=modelscope:qwen/Qwen-7B-Chat")
    code, out, _ = command(*words, "--clients", "2", "--json")
    answer = json.loads(out)
    assert code == 1
    assert not answer["memory"]["fits"]
    assert answer["simulation"] is answer["recommendation"] is None
    assert set(answer) == KEYS
    code, out, _ = command(*words, "--clients", "2")
    assert code == 1
    assert "it does not fit: Qwen-7B-Chat needs 14.4 GiB for weights" in out


def test_text_json_and_html_say_the_same(command, tmp_path):
    page = tmp_path / "plan.html"
    words = ("--clients", "6", "--gpus", "3", "--ttft-p95", "2", "--html", str(page))
    code, text, _ = command(*words)
    assert code == 0
    code, out, _ = command(*words, "--json")
    assert code == 0
    answer = json.loads(out)
    assert set(answer) == KEYS
    for part in (answer["simulation"], answer["recommendation"]["simulation"]):
        for name, unit, before in (("ttft_p95_s", "s", "p95 "), ("cost", "CNY", "")):
            band = Band(**part["bands"][name])
            assert band.value == part[name]
            assert before + band.text(unit) in text
    for change in answer["simulation"]["replica_changes"]:
        assert f"{change['before']} → {change['after']}  {change['reason']}" in text
    html = page.read_text("utf-8")
    for advice in answer["advice"]:
        assert advice["fix"] in text
        assert advice["fix"] in html
    assert "hair-trigger-panic" in {advice["rule"] for advice in answer["advice"]}
    assert answer["recommendation"]["next_best"] in html
    assert html.count("<svg") == 3
    assert "unmeasured" in answer["speed"]["basis"]
    assert answer["speed"]["basis"] in text
    for doubt in answer["recommendation"]["doubts"]:
        assert doubt in text


def test_the_page_loads_nothing_and_escapes_what_it_is_told(tmp_path):
    page = tmp_path / "plan.html"
    plan = ask(Settings.load(text={"scale_target": "2"}), clients=1, recommend=True)
    object.__setattr__(plan.traffic, "name", "<script>alert(1)</script>")
    report.write_html(plan, page)
    html = page.read_text("utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    addresses = set(re.findall(r"https?://[^\"' ]+", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    with pytest.raises(InvalidValue, match="html"):
        report.write_html(plan, tmp_path / "no" / "plan.html")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--clients", "-1"], "clients"),
        (["--clients", "0"], "clients"),
        (["--rate", "-0.5"], "rate_per_s"),
        (["--rate", "nan"], "rate_per_s"),
        (["--rate", "inf"], "rate_per_s"),
        (["--clients", "2", "--rate", "1"], "traffic"),
        (["--clients", "2", "--seconds", "0"], "seconds"),
        (["--clients", "2", "--seconds", "nan"], "seconds"),
        (["--clients", "2", "--seconds", "1e9"], "duration_s"),
        (["--prompt-tokens", "0"], "prompt_tokens"),
        (["--answer-tokens", "-3"], "answer_tokens"),
        (["--prompt-tokens", "6100"], "tokens"),
        (["--startup", "-1"], "startup"),
        (["--startup", "nan"], "startup"),
        (["--price", "-1"], "price_per_gpu_hour"),
        (["--gpus", "0"], "gpus"),
        (["--ttft-p95", "0"], "ttft_p95_s"),
        (["--ttft-p95", "0.001"], "ttft_p95_s"),
        (["--tpot", "0.001"], "tpot_p95_s"),
        (["--set", "gpu=H900"], "gpu"),
        (["--set", "gpu_count=2", "--gpus", "1"], "gpus"),
        (["--set", "model_source=./nowhere/Other"], "model"),
        (["--set", "stable_window=2s"], "window"),
        (["--set", "nonsense=1"], "nonsense"),
        (["--trace", "none.csv"], "trace"),
    ],
)
def test_a_question_that_cannot_be_is_refused_by_name(command, words, name):
    code, out, error = command(*words, "--json")
    assert code == 2
    answer = json.loads(out)
    assert answer["error"] in ("InvalidValue", "SettingsError")
    assert name in answer["name"]
    assert error.startswith("error: ")


@pytest.mark.parametrize("text", ["", "1\nx\n", "0,6000,6000\n"])
def test_a_trace_that_is_none_is_refused(command, tmp_path, text):
    trace = tmp_path / "trace.csv"
    trace.write_text(text)
    code, out, _ = command("--trace", str(trace), "--json")
    assert code == 2
    assert json.loads(out)["name"].startswith(("trace", "tokens"))


def test_of_a_public_trace_it_is_said_what_is_left_out(command):
    trace = DATA / "traces" / "mooncake-like.jsonl"
    code, out, _ = command("--trace", str(trace), "--no-recommend", "--json")
    assert (code, json.loads(out)["simulation"]["answered"]) == (0, 1)
    text = command("--trace", str(trace), "--no-recommend")[1]
    assert "1 longer than max_model_len 6144: vLLM refuses them; left out" in text


def test_a_trace_that_is_no_text_is_refused(command, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_bytes(b"\xff\xfe\x00")
    code, out, _ = command("--trace", str(trace), "--json")
    assert code == 2
    assert json.loads(out)["name"] == "trace"


def test_other_autoscalers_are_compared_when_asked_for(command, tmp_path):
    words = ("--compare", "--no-recommend", "--rate", "3", "--seconds", "120", "--gpus", "2")
    page = tmp_path / "plan.html"
    code, text, _ = command(*words, "--ttft-p95", "2", "--html", str(page))
    assert code == 0
    assert "cost, CNY" in text
    assert re.search(r"HPA on GPU utilization +60 % +0\.\d+", text)
    assert re.search(r"GPU utilization [\d.]+ per pod, target 60, asks for 2", text)
    html = page.read_text("utf-8")
    assert html.count("<svg") == 2
    assert "KEDA on waiting requests: 5" in html
    found = json.loads(command(*words, "--json")[1])["autoscalers"]
    assert {each["autoscaler"] for each in found} >= {"KPA on concurrency", "fixed fleet"}
    assert all(each["gpu_hours"] > 0 and "replica_changes" in each for each in found)
    assert ask().autoscalers is None


def test_what_within_means_is_said_and_a_long_list_of_changes_is_cut(command):
    words = ("--compare", "--no-recommend", "--rate", "2", "--seconds", "60", "--gpus", "1")
    text = command(*words, "--set", "min_scale=3")[1]
    assert "within: requests that are answered; name an objective" in text
    assert "GPUs for 1 replicas, 1 each\n" in text
    flapping = command("--compare", "--no-recommend", "--rate", "0.5", "--seconds", "1500")[1]
    assert "more: --json or --html has them all" in flapping.partition("who scaled when")[2]
