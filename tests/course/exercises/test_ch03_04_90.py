"""Chapters 03, 04 and 90 on a sandbox: to do before, passed by what the solutions say."""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.long

UPLOAD = "qwenkit upload modelscope:qwen/Qwen-7B-Chat-Int8 oss://$OSS_BUCKET/Qwen-7B-Chat-Int8"
POD = "kubectl get pods -l serving.knative.dev/service=qwen -o name"
ASK = "qwenkit query --max-tokens 10 杭州西湖"
TIMES = """
from qwenkit import Settings, answer, find_server
streamed = find_server(Settings()).stream("杭州西湖", max_tokens=10)
print(*streamed)
answer("04.2", streamed.stats.ttft_s + 199 * streamed.stats.tpot_s)
"""
KEPT = """
from qwenkit import Settings, Weights, answer
answer("90.1", Weights.of(Settings()).kept().bytes / 1e6)
"""


@pytest.fixture(scope="module")
def shell(terminal):
    # The last pod leaves after this window; until then each step must have its pod.
    with terminal(stable_window="30s") as run:
        yield run


@pytest.fixture
def check(shell):
    """Return a function that says the verdict, or else the misunderstanding."""

    def verdict(id_):
        (found,) = json.loads(shell(f"qwenkit check {id_} --json", fails=True))
        return found["misunderstanding"] or found["verdict"]

    return verdict


def python(code):
    return f"{sys.executable} - <<'END'\n{code}\nEND"


def test_each_exercise_is_passed_by_its_solution(shell, check):
    for start in ("true", UPLOAD, "qwenkit deploy"):
        everything = json.loads(shell(f"{start} >&2; qwenkit check 03 04 90 --json", fails=True))
        assert {one["verdict"] for one in everything} == {"todo"}
        assert len(everything) == 8

    blocks = shell(
        f"{ASK} >&2; kubectl logs $({POD}) -c vllm-container | grep -o 'GPU blocks: [0-9]*'"
    )
    shell(f"qwenkit answer 03.1 {int(blocks.split()[-1]) * 16}")
    assert check("03.1") == "passed"
    shell(f"{ASK}; qwenkit answer 03.2 $({POD})")
    assert check("03.2") == "passed"
    shell("kubectl label ksvc qwen team=me")
    assert check("03.3") == "passed"
    assert shell("kubectl get revisions -o name").split() == [
        "revision.serving.knative.dev/qwen-00001"
    ]

    host = shell("kubectl get ksvc qwen -o jsonpath={.status.url}").removeprefix(
        "http://qwen.default"
    )
    shell(f"qwenkit answer 04.1 chat.team-a{host}")
    assert check("04.1") == "passed"
    shell(python(TIMES))
    assert check("04.2") == "passed"
    shell("while kubectl get pods -o name | grep -q .; do sleep 0.5; done")
    assert check("04.3") == "passed"
    shell(ASK)
    assert check("04.3") == "todo"

    shell(f"{python(KEPT)}\nqwenkit teardown --yes")
    assert check("90.1") == "passed"
    assert check("90.2") == "passed"


def test_what_a_learner_gets_wrong_in_the_cluster_is_named(shell, check):
    shell(f"{UPLOAD}; qwenkit reset 03; qwenkit deploy")
    shell("kubectl annotate ksvc qwen team=me")
    assert check("03.3") == "annotation"
    shell("kubectl label pods --all team=me; kubectl annotate ksvc qwen team-")
    assert check("03.3") == "pod"
    shell("kubectl delete pvc llm-model --wait=false")
    assert check("90.2") == "claim-first"
    shell("kubectl delete ksvc qwen")
    shell("while kubectl get pods -o name | grep -q .; do sleep 0.5; done")
    assert check("90.2") == "volume-left"
    shell("kubectl delete pv llm-model")
    assert check("90.2") == "keys-left"
    shell("kubectl delete secret llm-model-oss")
    assert check("90.2") == "passed"
