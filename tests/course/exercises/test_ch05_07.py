"""Chapters 05 to 07 on a sandbox: untouched, each exercise is to do; by its solution it passes."""

from __future__ import annotations

import json
import re

import pytest

from qwenkit.exercises.exercise import find, of_chapter

pytestmark = pytest.mark.long

UPLOAD = "qwenkit upload modelscope:qwen/Qwen-7B-Chat-Int8 oss://$OSS_BUCKET/Qwen-7B-Chat-Int8"
ANSWERS = ["05.1", "05.2", "06.1", "06.2", "07.1"]
FOLLOWS = '[{"latestRevision":true,"percent":100}]'


@pytest.fixture(scope="module")
def shell(terminal):
    with terminal(stable_window="10s") as run:
        run(f"{UPLOAD}; qwenkit deploy")
        yield run


def leave_one_pod(shell):
    """Wait until the pods of earlier revisions have freed their GPUs."""
    pods = "kubectl get pods -l serving.knative.dev/service=qwen -o name"
    shell(f'until [ "$({pods} | wc -l)" -le 1 ]; do sleep 0.5; done')


def verdict(shell, id_):
    (checked,) = json.loads(shell(f"qwenkit check {id_} --json", fails=True))
    return checked["misunderstanding"] or checked["verdict"]


def commands(id_):
    """Return the lines of a solution that are typed."""
    typed = re.compile(r"^(?:qwenkit|kubectl|latest=|earlier=).*$", re.MULTILINE)
    return typed.findall(find(id_).solution)


@pytest.mark.parametrize("chapter", ["05", "06", "07"])
def test_untouched_nothing_is_done_yet(shell, chapter):
    assert {verdict(shell, id_) for id_ in of_chapter(chapter)} == {"todo"}


@pytest.mark.parametrize("id_", ANSWERS)
def test_an_answer_of_the_solution_passes(shell, id_):
    (right,) = re.findall(r'answer\("[\d.]+", (.+?)\)', find(id_).solution)
    shell(f"qwenkit answer {id_} {right}")
    assert verdict(shell, id_) == "passed"


@pytest.mark.parametrize(("id_", "slip"), [("05.3", "no-headroom"), ("05.4", "target")])
def test_a_setting_that_is_tried_and_changed_back(shell, id_, slip):
    leave_one_pod(shell)
    shell("qwenkit deploy --set scale_target=3")
    assert verdict(shell, id_) == slip
    ((change, back),) = [line.split("; ") for line in commands(id_)]
    leave_one_pod(shell)
    shell(change)
    assert verdict(shell, id_) == "not-back"
    leave_one_pod(shell)
    shell(back)
    assert verdict(shell, id_) == "passed"


def test_two_replicas_by_load_alone(shell):
    leave_one_pod(shell)
    (load,) = commands("06.3")
    until_passed = "until qwenkit check 06.3 --json; do sleep 0.2; done"
    seen = shell(f"{load} >/dev/null & {until_passed}; kill %1; wait", fails=True)
    assert '"passed"' in seen
    assert '"starting"' in seen or '"todo"' in seen


def test_traffic_by_hand_and_back(shell):
    shell("\n".join(commands("07.2")))
    shell("qwenkit query --max-tokens 1 hello")
    assert verdict(shell, "07.2") == "passed"
    assert verdict(shell, "07.3") == "still-split"
    *roll_back, follow = commands("07.3")
    shell("\n".join(roll_back))
    assert verdict(shell, "07.3") == "passed"
    assert verdict(shell, "07.2") == "dark"
    shell(follow)
    assert shell("kubectl get ksvc qwen -o jsonpath={.spec.traffic}") == FOLLOWS


def test_what_is_passed_is_kept_and_the_service_is_as_before(shell):
    kept = json.loads(shell("qwenkit progress --json"))
    assert kept["passed"] == sum(len(of_chapter(number)) for number in ("05", "06", "07"))
    shell("qwenkit reset 05")
    assert verdict(shell, "05.3") == "todo"
