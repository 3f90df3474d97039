"""Requests, autoscaler, pods and vLLM are on one time axis, and so is their chart."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from qwenkit.cluster.pod_metrics import EngineMetrics, PodMetrics, ScalerMetrics
from qwenkit.cluster.watching import ClusterSample, PodSample, Replicas
from qwenkit.inference.results import LoadRequest, LoadResult
from qwenkit.loadtest.moment import Moment
from qwenkit.loadtest.timeline import Timeline
from qwenkit.widgets.load_chart import draw_load, load_chart
from qwenkit.widgets.svg import TOP

SVG = "{http://www.w3.org/2000/svg}"


def request(number: int, sent_s: float, end_s: float, **more: Any) -> LoadRequest:
    ok = not more.get("why")
    fields = {
        "scheduled_s": sent_s,
        "sent_s": sent_s,
        "first_byte_s": sent_s + 0.1,
        "first_s": sent_s + 0.1 if ok else None,
        "last_s": end_s,
        "end_s": end_s,
        "token_s": (),
        "status": 200,
        "outcome": "ok" if ok else "failed",
        "why": "",
        "prompt_tokens": 10,
        "tokens": 10 if ok else 0,
    }
    return LoadRequest(number, **fields | more)


def sample(at_s: float, ready: int, *, other: int = 0, answers: int = 0) -> ClusterSample:
    """A moment of two revisions; each ready pod has given ``answers``."""
    pods = [pod(f"new-{n}", "new") for n in range(ready)]
    pods += [pod(f"old-{n}", "old") for n in range(other)]
    revisions = {"new": Replicas(desired=3, ready=ready), "old": Replicas(ready=other)}
    engines = {f"new-{n}": EngineMetrics(waiting=2, answers=answers) for n in range(ready)}
    metrics = PodMetrics(engines, {"new": ScalerMetrics(stable=4.5, panic=6)})
    return ClusterSample(at_s, "new", revisions, tuple(pods), metrics)


def pod(name: str, revision: str) -> PodSample:
    return PodSample(name, revision, "Running", "", True, False, "node", 8080)


def timeline(requests: list[LoadRequest], samples: list[ClusterSample]) -> Timeline:
    seconds = max((one.end_s for one in requests), default=0.0)
    return Timeline(LoadResult(tuple(requests), seconds, began=0.0), samples)


def ready(seen: Timeline) -> list[int | None]:
    """Return the ready replicas of the serving revision at each second."""
    replicas = [seen.at(float(second)).replicas for second in range(round(seen.end_s) + 1)]
    return [each.ready if each else None for each in replicas]


GROWS = [sample(at_s, ready) for at_s, ready in ((-2, 1), (0.5, 1), (4, 2), (8, 3), (12, 0))]


def test_replicas_by_second_from_the_start_to_the_last_sample() -> None:
    seen = timeline([request(0, 0, 9)], GROWS)
    assert ready(seen) == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 0]
    assert (seen.start_ready, seen.peak_ready) == (1, 3)
    assert seen.last is GROWS[-1]
    assert (seen.start_s, seen.end_s) == (-2, 12)
    # one pod until 4 s, two until 8 s, three until 12 s; nothing counts before the load
    assert seen.at(12).pod_seconds == 4 + 8 + 12
    assert repr(seen) == "1 requests, 0 failed, ready replicas 1 → 3 → 0"


def test_pods_of_other_revisions_are_counted_apart() -> None:
    full = timeline([request(0, 0, 3)], [sample(0, 1, other=1), sample(3, 3, other=1)])
    assert (full.start_ready, full.peak_ready, full.last.served.ready) == (1, 3, 3)
    assert full.at(3).figures()["replicas"] == "3 ready of 3 desired, 1 of other revisions"
    seen = timeline([request(0, 0, 3)], [sample(0, 1, other=2), sample(3, 1)])
    assert seen.at(3).figures()["replicas"] == "1 ready of 3 desired"
    assert (seen.at(1).replicas.ready, seen.at(1).others) == (1, 2)
    assert seen.at(3).others == 0
    assert seen.at(3).pod_seconds == 3 * 3  # they hold their GPUs


def test_a_gap_is_not_filled() -> None:
    away = [ClusterSample(at_s, error="away") for at_s in (5.0, 8.0)]
    seen = timeline([request(0, 0, 9)], [sample(0, 1), sample(4, 2), *away, sample(11, 3)])
    assert seen.gaps == [(4, 11, "away")]
    assert ready(seen) == [1, 1, 1, 1, 2, None, None, None, None, None, None, 3]
    assert seen.at(6).others is None
    assert seen.at(6).figures()["replicas"] == "no answer"
    assert [one.at_s for one in seen.known] == [0, 4, 11]
    root = ElementTree.fromstring(load_chart(seen).svg())
    assert len([p for p in root.iter(f"{SVG}path") if p.findtext(f"{SVG}title") == "ready"]) == 2


def test_a_moment_has_the_figures_of_the_ten_seconds_before() -> None:
    early = [request(n, 0, 1 + n / 10, tokens=100) for n in range(3)]
    late = [request(n, 20, 24, tokens=40) for n in range(3, 5)]
    failed = request(5, 21, 22, why="http 503")
    seen = timeline([*early, *late, failed], [sample(0, 1)])
    now = seen.at(23)
    assert (now.sent, now.ok, now.in_flight, now.waiting) == (6, 3, 2, 0)
    assert (now.ttft_s, now.errors) == ({}, {"http 503": 1})
    assert (now.queued, now.stable, now.panic) == (2, 4.5, 6)
    then = seen.at(25)
    assert then.latency_s["p95"] == 4
    assert then.offered_per_s == 3 / 10
    assert then.tokens_per_s == pytest.approx(80 / 10)
    assert seen.at(1.15).waiting == 0
    assert seen.at(20.05).waiting == 2  # their first token comes at 20.1 s
    assert sum(seen.at(at_s).tokens_per_s for at_s in (10, 20, 30)) == pytest.approx(380 / 10)


def test_who_answered_is_told_or_counted() -> None:
    told = timeline([request(0, 0, 1, pod="a"), request(1, 0, 1, pod="b", why="cut")], GROWS)
    assert told.served_by == {"a": 1}
    samples = [sample(-1, 1, answers=5), sample(3, 2, answers=8), sample(9, 1, answers=9)]
    counted = timeline([request(0, 0, 1)], samples)
    assert counted.served_by == {"new-0": 4, "new-1": 8}  # the second started meanwhile
    assert timeline([request(0, 0, 1)], [sample(0, 0)]).served_by == {}


def test_all_is_drawn_on_one_axis_from_before_the_load_to_the_last_sample() -> None:
    requests = [request(n, n, n + 2) for n in range(6)]
    requests.append(request(6, 6, 6.5, why="http 503"))
    seen = timeline(requests, [*GROWS[:2], sample(3, 2, other=1), *GROWS[2:]])
    drawn = load_chart(seen)
    assert repr(drawn) == repr(seen)
    root = ElementTree.fromstring(drawn.svg())
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert "at 6.0 s: http 503 after 0.50 s" in titles
    assert {"TTFT p95", "latency p50", "in flight", "pods of other revisions"} <= set(titles)
    assert "average of the stable window" in titles
    assert any(title.startswith("the load ended after 7.0 s") for title in titles)
    words = {word.text: float(word.get("x")) for word in root.iter(f"{SVG}text") if word.text}
    dots = [float(dot.get("cx")) for dot in root.iter(f"{SVG}circle")]
    assert min(dots) == words["0"]  # the first request is due at second 0, right of the axis
    assert len(dots) == 6 * 2 + 1
    ready = next(p for p in root.iter(f"{SVG}path") if p.findtext(f"{SVG}title") == "ready")
    assert f"H{words['12']}V" in ready.get("d")


def test_a_percentile_is_inside_the_axis_though_its_requests_have_no_dot() -> None:
    slow, fast = Moment(1.0, latency_s={"p50": 100.0, "p95": 100.0}), request(0, 20, 20.2)
    drawn = ElementTree.fromstring(draw_load([slow, Moment(21.0)], [fast], text="").svg())
    line = next(p for p in drawn.iter(f"{SVG}path") if p.findtext(f"{SVG}title") == "latency p95")
    assert float(line.get("d").partition(" ")[2].partition("H")[0]) > TOP


@pytest.mark.parametrize("count", [0, 1, 20_000])
def test_any_number_of_requests_is_drawn_in_a_bounded_picture(count: int) -> None:
    requests = [request(n, n / 20, n / 20 + 1, why="cut" * (n % 3 == 0)) for n in range(count)]
    drawn = load_chart(timeline(requests, [sample(0, 1)]))
    assert len(drawn.svg()) < 500_000
