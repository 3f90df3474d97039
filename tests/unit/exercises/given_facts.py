"""Facts that a test gives, and what an exercise says to them."""

from __future__ import annotations

from qwenkit.cluster.kinds import kind_of, labels_of, name_of
from qwenkit.exercises.exercise import find
from qwenkit.exercises.facts import Facts
from qwenkit.settings import Settings


class GivenFacts(Facts):
    """Objects, a bucket's texts by key, pages of the server by path."""

    def __init__(self, settings=None, answer=None, *, objects=(), bucket=None, pages=None):
        super().__init__(settings, answer)
        self._given, self._bucket, self._pages = tuple(objects), bucket or {}, pages or {}

    def find(self, kind, name):
        return next((obj for obj in self.list(kind) if name_of(obj) == name), None)

    def list(self, kind, labels=None):
        found = [obj for obj in self._given if kind_of(obj) == kind]
        return [obj for obj in found if (labels or {}).items() <= labels_of(obj).items()]

    def objects(self, prefix=None):
        start = f"{self.settings.prefix}/" if prefix is None else prefix
        return {
            key: len(text.encode()) for key, text in self._bucket.items() if key.startswith(start)
        }

    def get(self, path):
        return self._pages[path]


def is_told(id_, verdict, wrong):
    assert (verdict.kind, verdict.wrong) == ("wrong", wrong)
    assert find(id_).wrong[wrong].format(**verdict.values)


def told(id_, facts):
    """Return the kind of the verdict, or the misunderstanding that it names."""
    verdict = find(id_).grade(facts)
    if verdict.kind == "wrong":
        is_told(id_, verdict, verdict.wrong)
    return verdict.wrong or verdict.kind


def verdict(id_, answer=None, objects=(), bucket=None, pages=None, **settings):
    given = {"objects": objects, "bucket": bucket, "pages": pages}
    return told(id_, GivenFacts(Settings(**settings), answer, **given))
