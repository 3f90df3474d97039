"""Measurements in, a verdict with its reason out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenkit.loadtest.gate import CanaryStep, Gate, wrong_answer

GATE = Gate(ttft_p95_s=5.0, requests=20, failed=0.05)
GOOD = CanaryStep("qwen-00002", 10, requests=20, goodput=100.0, ttft_p95_s=4.9)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"failed": 1, "cause": "http 503"}, ""),
        ({"failed": 2, "cause": "http 503, no pod"}, "2 of 20 requests failed: http 503, no pod"),
        # Held as soon as nothing could make it good again, whatever is not measured yet.
        ({"requests": 2, "failed": 2, "ttft_p95_s": None}, "2 of 2 requests failed: "),
        ({"requests": 19}, "19 requests are too few: 20 are needed"),
        ({"ttft_p95_s": None}, "20 requests are too few: 20 are needed"),
        ({"ttft_p95_s": 5.01}, "TTFT p95 is 5.01 s; the objective is 5 s"),
        ({"wrong": ("a → '!!!'",), "failed": 9}, "1 of 3 answers are wrong: a → '!!!'"),
    ],
)
def test_a_verdict_has_its_reason(changed: dict[str, object], why: str) -> None:
    judged = GATE.judge(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert (judged.gate, judged.why) == ("held" if why else "passed", why.strip())
    assert judged.requests == changed.get("requests", 20)


@pytest.mark.parametrize(
    ("question", "text", "expected", "good"),
    [
        ("杭州西湖", "西湖位于中国浙江省杭州市", "", True),
        ("杭州西湖", "<think>好的，用户问的是杭州西湖的情况", "", True),
        ("Who are you?", "I am Qwen, a model.", "", True),
        ("Who are you?", "!!!!!!!!!!!!!!!!!!!!", "", False),
        ("Who are you?", "aaaa aaaa aaaa", "", False),
        ("Who are you?", "", "", False),
        ("Who are you?", "平是中国位于位于位于位于", "", False),
        ("杭州西湖", "request failed: http 400", "", False),
        ("你好", "你好！请问我", "你好！请问我", True),
        ("你好", "你好！请问你", "你好！请问我", False),
    ],
)
def test_an_answer_has_the_form_or_the_words_of_a_right_one(
    question: str, text: str, expected: str, good: bool
) -> None:
    found = wrong_answer(question, text, expected)
    assert (not found) == good
    assert not found or question in found
