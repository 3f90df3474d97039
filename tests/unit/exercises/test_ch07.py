"""The exercises of chapter 07: right ways, wrong ways and what each is told."""

from __future__ import annotations

import pytest
from given_facts import GivenFacts, told

from qwenkit.exercises.exercise import TODO, find
from qwenkit.settings import Settings

FIRST, SECOND, LATEST = "qwen-00001", "qwen-00002", "qwen-00003"


def route(revision, percent=None, tag=None):
    made = {"latestRevision": True} if revision is None else {"revisionName": revision}
    return {
        **made,
        **({} if percent is None else {"percent": percent}),
        **({} if tag is None else {"tag": tag}),
    }


def routed(*traffic, ready="True", created=LATEST):
    service = {
        **{"apiVersion": "serving.knative.dev/v1", "kind": "Service"},
        "metadata": {"name": "qwen"},
        "spec": {"traffic": list(traffic)},
        "status": {
            "latestReadyRevisionName": LATEST,
            "latestCreatedRevisionName": created,
            "conditions": [{"type": "RoutesReady", "status": ready}],
        },
    }
    return GivenFacts(Settings(), objects=[service])


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (1, "no-traffic-no-gpu"),
        (0, "none"),
        (3, "max-scale"),
        (4, "max-scale-twice"),
        (1.1, "share"),
        ("two", "no-number"),
        (7, "other"),
        (2, "passed"),
        (None, "todo"),
    ],
)
def test_an_answer(answer, seen):
    assert told("07.1", GivenFacts(answer=answer)) == seen


@pytest.mark.parametrize(
    ("facts", "seen"),
    [
        (routed(route(SECOND, 10, "candidate"), route(LATEST, 90)), "swapped"),
        (routed(route(SECOND, 50), route(LATEST, 50, "candidate")), "share"),
        (routed(route(SECOND, 90), route(LATEST, 10), created="qwen-00004"), "being-made"),
        (routed(route(FIRST, 45), route(SECOND, 45), route(LATEST, 10, "candidate")), "share"),
        (routed(route(SECOND, 100), route(LATEST, 0, "candidate")), "dark"),
        (routed(route(FIRST, 90), route(SECOND, 10, "candidate")), "not-the-latest"),
        (routed(route(SECOND, 90), route(LATEST, 10)), "no-tag"),
        (routed(route(SECOND, 90, "candidate"), route(LATEST, 10)), "other-tag"),
        (routed(route(SECOND, 90), route(LATEST, 10, "canary")), "other-tag"),
        (routed(route(SECOND, 90), route(LATEST, 10, "candidate"), ready="False"), "not-ready"),
        (routed(route(SECOND, 90), route(LATEST, 10, "candidate")), "passed"),
        (routed(route(FIRST, 90, "stable"), route(None, 10, "candidate")), "passed"),
        (routed(route(SECOND, 90), route(LATEST, 10), route(LATEST, tag="candidate")), "passed"),
        (routed(), "todo"),
        (routed(route(None, 100)), "todo"),
    ],
)
def test_a_tenth_with_a_tag(facts, seen):
    assert told("07.2", facts) == seen


@pytest.mark.parametrize(
    ("facts", "seen"),
    [
        (routed(route(LATEST, 100)), "forward"),
        (routed(route(None, 100), route(SECOND, 0, "stable")), "only-a-tag"),
        (routed(route(SECOND, 90), route(LATEST, 10, "candidate")), "still-split"),
        (routed(route(FIRST, 50), route(SECOND, 50)), "two-earlier-ones"),
        (routed(route(SECOND, 100), created="qwen-00004"), "deployed"),
        (routed(route("qwen-00009", 100), ready="False"), "not-ready"),
        (routed(route(SECOND, 100)), "passed"),
        (routed(route(FIRST, 100, "stable"), route(LATEST, 0, "candidate")), "passed"),
        (routed(route(None, 0), route(SECOND, 100)), "passed"),
        (routed(), "todo"),
        (routed(route(None, 100)), "todo"),
    ],
)
def test_back_to_an_earlier_revision(facts, seen):
    assert told("07.3", facts) == seen


@pytest.mark.parametrize("id_", ["07.2", "07.3"])
def test_without_the_service_nothing_is_done_yet(id_):
    assert find(id_).grade(GivenFacts(Settings())) == TODO
