"""The exercises of chapter 00: right ways, wrong ways and what each is told."""

from __future__ import annotations

import pytest
from given_facts import GivenFacts

from qwenkit.exercises.exercise import PASSED, TODO, find
from qwenkit.settings import Settings


def node(gpus, cpu="96"):
    """Return a node as a cluster lists it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{gpus}-{cpu}"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"nvidia.com/gpu": str(gpus), "cpu": cpu, "memory": "300Gi"},
        },
    }


def grade(id_, answer, *nodes, **settings):
    facts = GivenFacts(Settings(**settings), answer=answer, objects=nodes or [node(3)])
    return find(id_).grade(facts)


@pytest.mark.parametrize(
    ("id_", "answer", "told"),
    [
        ("00.1", "gateway", "gateway"),
        ("00.1", "queue proxy", "queue-proxy"),
        ("00.1", "the KPA", "kpa"),
        ("00.1", "vLLM", "vllm"),
        ("00.1", "Revision", "revision"),
        ("00.1", "kubelet", "other"),
        ("00.1", 3, "other"),
        ("00.2", 3, "no-spare"),
        ("00.2", 4, "counted-both"),
        ("00.2", 6, "too-many"),
        ("00.2", -1, "too-many"),
        ("00.2", 1, "as-many-again"),
        ("00.2", 0, "no-limit"),
        ("00.2", "two", "no-number"),
        ("00.2", 2.0, "no-number"),
        ("00.2", True, "no-number"),
    ],
)
def test_a_wrong_answer_is_told_which_misunderstanding_it_shows(id_, answer, told):
    verdict = grade(id_, answer)
    assert (verdict.kind, verdict.wrong) == ("wrong", told)
    assert find(id_).wrong[told].format(**verdict.values)


@pytest.mark.parametrize("answer", ["activator", "Activator", "the activator"])
def test_the_activator_is_right(answer):
    assert grade("00.1", answer) == PASSED


@pytest.mark.parametrize(
    ("answer", "nodes", "settings"),
    [
        (2, [node(3)], {}),
        (2, [node(3)], {"max_scale": 2}),  # tried out in the notebook
        (0, [node(1)], {}),  # no room for two
        (3, [node(2), node(2)], {}),
        (1, [node(2), node(2)], {"gpu_count": 2}),
        (1, [node(3)], {"min_scale": 2}),  # a new revision starts with as many
        (1, [node(0, cpu="16")], {"gpu_count": 0}),  # a server on CPUs
    ],
)
def test_the_room_is_that_of_the_nodes(answer, nodes, settings):
    assert grade("00.2", answer, *nodes, **settings) == PASSED


@pytest.mark.parametrize("id_", ["00.1", "00.2"])
def test_without_an_answer_it_is_not_done_yet(id_):
    assert find(id_).grade(GivenFacts(Settings())) == TODO
