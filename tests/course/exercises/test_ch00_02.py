"""Chapters 00 to 02 on a sandbox: untouched, each exercise is to do; by its solution it passes."""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.long

MODEL = "modelscope:qwen/Qwen-7B-Chat-Int8"
PREFIX = "oss://$OSS_BUCKET/Qwen-7B-Chat-Int8"
STORAGE = """
from qwenkit import Settings, apply, render
s = Settings()
apply(s, render(s)[:-1])
"""
READER = """
from qwenkit import Settings, apply, render
s = Settings()
second = s.model_copy(update=dict(volume="reader"))
apply(second, render(second)[:-1])
"""
SUCCESSOR = """
from qwenkit import Settings, apply, render
s = Settings()
claim = render(s.model_copy(update=dict(volume="reader")))[2]
claim["metadata"]["name"] = "successor"
apply(s, [claim])
"""
FREED = r"kubectl patch pv reader -p $'spec:\n  claimRef: null'"
BOUND = "until kubectl get pvc successor | grep Bound; do sleep 0.2; done"


@pytest.fixture(scope="module")
def shell(terminal):
    with terminal() as run:
        yield run


def python(code):
    return f"{sys.executable} - <<'END'\n{code}\nEND"


@pytest.fixture
def check(shell):
    """Return a function that says the verdict, or else the misunderstanding."""

    def verdict(id_):
        (found,) = json.loads(shell(f"qwenkit check {id_} --json", fails=True))
        return found["misunderstanding"] or found["verdict"]

    return verdict


def test_chapter_00(shell, check):
    assert {check("00.1"), check("00.2")} == {"todo"}
    shell("qwenkit answer 00.1 activator; qwenkit answer 00.2 2")
    assert {check("00.1"), check("00.2")} == {"passed"}
    shell("qwenkit answer 00.2 3", fails=True)
    assert check("00.2") == "no-spare"


def test_chapter_01(shell, check):
    assert {check(f"01.{n}") for n in (1, 2, 3)} == {"todo"}
    shell(f"qwenkit upload {MODEL} {PREFIX}")
    assert {check(f"01.{n}") for n in (1, 2, 3)} == {"todo"}
    shell("qwenkit sandbox fault weights missing-shard")
    shell("qwenkit answer 01.1 1", fails=True)
    assert check("01.1") == "still-missing"
    assert "1 uploaded, 0 resumed, 8 skipped" in shell(f"qwenkit upload {MODEL} {PREFIX}")
    assert check("01.1") == "passed"

    shell(f"qwenkit upload {MODEL} {PREFIX}/tokenizer --include tokenizer.json")
    assert check("01.2") == "half"
    shell(f"qwenkit upload {MODEL} {PREFIX}/tokenizer --include 'tokenizer*' --replace")
    assert check("01.2") == "passed"
    shell(f"qwenkit upload {MODEL} {PREFIX}/licence --versioned --include LICENSE")
    assert check("01.3") == "passed"
    # The course goes on as without them.
    assert "0 uploaded, 0 resumed, 9 skipped" in shell(f"qwenkit upload {MODEL} {PREFIX}")
    assert "is whole" in shell(f"qwenkit verify {PREFIX}")


def test_chapter_02_after_which_teardown_leaves_nothing(shell, check):
    shell(f"qwenkit upload {MODEL} {PREFIX}; {python(STORAGE)}")
    assert {check(f"02.{n}") for n in (1, 2, 3)} == {"todo"}
    shell("qwenkit answer 02.1 /Qwen-7B-Chat-Int8/config.json")
    assert check("02.1") == "passed"

    shell(python(READER.replace("[:-1]", "[1:-1]")))
    assert check("02.2") == "no-key"
    shell(python(READER))
    assert (check("02.2"), check("02.3")) == ("passed", "todo")
    shell("kubectl delete pvc reader")
    assert check("02.3") == "released"
    shell(python(SUCCESSOR))
    assert check("02.3") == "old-uid"
    shell(f"{FREED}; {BOUND}")
    assert (check("02.2"), check("02.3")) == ("passed", "passed")

    said = shell("qwenkit teardown --delete-weights; kubectl get pv,pvc,secret -o name")
    assert "nothing is left" in said
    assert "persistentvolume" not in said
    assert "secret" not in said.partition("nothing is left")[2]
