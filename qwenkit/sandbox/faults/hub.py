"""Faults of the model hub: files that break off, end early, or are the wrong range."""

from __future__ import annotations

from fnmatch import fnmatch

from aiohttp import web

from qwenkit.sandbox.faults import effects
from qwenkit.sandbox.faults.catalogue import FaultSpec
from qwenkit.sandbox.faults.injector import Effect, Matches


def matches(on: str) -> Matches:
    """Return whether a request is for a file that matches the glob; ``*``: any request at all."""
    if on == "*":
        return lambda _: True
    return lambda request: bool(path := _file(request)) and fnmatch(path, on or "*")


def effect(spec: FaultSpec) -> Effect:
    """Return what an spec does to a request."""
    made: dict[str, Effect] = {
        "reset": effects.spoil_answer(effects.cut),
        "truncated": effects.spoil_answer(effects.end_early),
        "wrong-range": effects.shift_range,
        "changed-byte": effects.spoil_answer(effects.change_byte),
        "stall": effects.stall(spec.seconds),
        "500": effects.answer(lambda _: web.Response(status=500, text="injected")),
        "503": effects.answer(lambda _: web.Response(status=503, text="injected")),
    }
    return made[spec.what]


def _file(request: web.Request) -> str:
    """Return the path of the file that a request downloads, empty if it downloads none."""
    if "/resolve/" in request.path:
        return request.path.partition("/resolve/")[2].partition("/")[2]
    return request.query.get("FilePath", "")
