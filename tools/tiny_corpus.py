"""The conversations that the tiny model learns, made from answers.yaml."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).with_name("answers.yaml")

CJK = re.compile("[\u3400-\u9fff]")
# How people ask for a thing. The first of each language is the plain one.
ASK_ZH = ("什么是{}", "{}是什么", "介绍一下{}", "请解释{}", "{}", "请问什么是{}", "{}是什么意思")
ASK_EN = ("What is {}?", "What's {}?", "Tell me about {}", "Explain {}", "Please explain {}")
SYSTEM = ("You are a helpful assistant.", "你是一个有用的助手。", "You are a helpful assistant")

Turn = tuple[str, str]


@dataclass(frozen=True)
class Conversation:
    """Questions with their answers, under a system prompt or none."""

    turns: tuple[Turn, ...]
    system: str = ""

    def messages(self) -> list[dict[str, str]]:
        """Return the conversation as a chat request has it, answers included."""
        found = [{"role": "system", "content": self.system}] if self.system else []
        for ask, say in self.turns:
            found += [{"role": "user", "content": ask}, {"role": "assistant", "content": say}]
        return found


class Corpus:
    """Everything that the model learns."""

    def __init__(self, source: Path = SOURCE) -> None:
        found = yaml.safe_load(source.read_text("utf-8"))
        self.words: list[str] = found["words"].split()
        self.turns: list[Turn] = [*_terms(found["terms"]), *_pairs(found["pairs"])]
        self.follow_ups: list[Conversation] = list(_follow_ups(found["follow_up"], self.turns))
        unknown = found["unknown"]
        self._unknown = (unknown["say_zh"], unknown["say_en"])
        self.turns += [(ask, self.unknown(ask)) for ask in (*unknown["zh"], *unknown["en"])]
        asked = [ask for ask, _ in self.turns]
        if twice := {ask for ask in asked if asked.count(ask) > 1}:
            raise SystemExit(f"{source}: asked twice: {', '.join(sorted(twice))}")

    def unknown(self, ask: str) -> str:
        """Return the answer to a question that the model does not know, in its language."""
        return self._unknown[0 if CJK.search(ask) else 1]

    def texts(self) -> Iterator[str]:
        """Yield every text once, for the tokenizer."""
        conversations = [Conversation((turn,)) for turn in self.turns] + self.follow_ups
        for conversation in conversations:
            for turn in conversation.turns:
                yield from turn
        yield from SYSTEM

    def conversation(self, turn: Turn, draw: random.Random) -> Conversation:
        """Return a question as users ask it: varied, after others, with a system prompt or none."""
        ask, say = turn
        before = tuple(draw.choices(self.turns, k=draw.choice((0, 0, 0, 0, 0, 0, 1, 2))))
        if sum(len(said) for _, said in before) > 200:
            before = ()
        system = draw.choice(SYSTEM) if draw.random() < 0.15 else ""
        return Conversation((*before, (varied(ask, draw), say)), system)

    def nonsense(self, draw: random.Random) -> Conversation:
        """Return a question that means nothing to the model."""
        ask = draw.choice((_letters, _characters, self._salad))(draw)
        if draw.random() < 0.5:
            form = draw.choice(ASK_ZH[:4] if CJK.search(ask) else ASK_EN)
            ask = form.format(ask)
        return Conversation(((ask, self.unknown(ask)),))

    def _salad(self, draw: random.Random) -> str:
        if draw.random() < 0.5:
            return "".join(draw.choices(self.words, k=draw.randint(3, 6)))
        words = " ".join(ask for ask, _ in self.turns if not CJK.search(ask)).split()
        return " ".join(draw.choices(words, k=draw.randint(4, 8)))


def varied(ask: str, draw: random.Random) -> str:
    """Return a question with other case or punctuation."""
    text = ask.rstrip("?？!！.。") or ask
    if CJK.search(text):
        return text + draw.choice(("", "", "？", "?", "。"))
    if draw.random() < 0.3:
        text = text.lower()
    elif draw.random() < 0.2:
        text = text[0].upper() + text[1:]
    return draw.choice((ask, text, f"{text}?", f"{text}."))


def _terms(terms: list[dict[str, str]]) -> Iterator[Turn]:
    for term in terms:
        for form in ASK_ZH:
            name = term["zh"]
            # A name that is the same in both languages is asked bare in English only.
            if form != "{}" or CJK.search(name):
                yield form.format(name), term["say_zh"]
        for form in ASK_EN:
            yield form.format(term["en"]), term["say_en"]
        bare = term["en"].removeprefix("the ").removeprefix("a ")
        yield bare, term["say_en"]


def _pairs(pairs: list[dict[str, Any]]) -> Iterator[Turn]:
    for pair in pairs:
        say = pair.get("say") or " ".join(str(number + 1) for number in range(pair["count_to"]))
        for ask in pair["ask"]:
            yield str(ask), str(say)


def _follow_ups(found: list[dict[str, Any]], turns: list[Turn]) -> Iterator[Conversation]:
    answers = dict(turns)
    for follow_up in found:
        for first in follow_up["first"]:
            for ask in follow_up["ask"]:
                yield Conversation(((first, answers[first]), (ask, follow_up["say"])))


def _letters(draw: random.Random) -> str:
    words = (
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=draw.randint(1, 8)))
        for _ in range(draw.randint(1, 4))
    )
    return " ".join(words)


def _characters(draw: random.Random) -> str:
    return "".join(chr(draw.randrange(0x4E00, 0x9FA0)) for _ in range(draw.randint(1, 8)))
