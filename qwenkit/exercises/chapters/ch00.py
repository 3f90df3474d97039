"""Chapter 00: who holds an early request, and room for a rollout."""

from __future__ import annotations

from qwenkit.cluster.kinds import NODE
from qwenkit.cluster.preflight.rooms import Rooms
from qwenkit.exercises.exercise import TODO, Verdict, exercise, judged
from qwenkit.exercises.facts import Facts


@exercise("00.1")
def the_first_request(facts: Facts) -> Verdict:
    """Only the activator holds requests."""
    given = str(facts.answer or "").strip().lower().replace(" ", "-").removeprefix("the-")
    others = ("gateway", "queue-proxy", "kpa", "vllm", "revision")
    seen = {name: given == name for name in others} | {"other": given != "activator"}
    return judged(seen, answer=facts.answer) if given else TODO


@exercise("00.2")
def the_largest_scale_with_room(facts: Facts) -> Verdict:
    """What the nodes have room for, less the first pods of a new revision."""
    if (given := facts.answer) is None:
        return TODO
    own = facts.settings
    asked = {"cpu": own.cpu_request, "memory": own.memory_request}
    asked |= {own.gpu_resource: str(own.gpu_count)}
    spec = {"containers": [{"resources": {"requests": asked}}]}
    fitting = Rooms(tuple(facts.list(NODE)), spec, ()).places(*asked)
    room = max(0, fitting - max(own.min_scale, own.initial_scale or 1))
    seen = {
        "no-number": type(given) is not int,
        "no-spare": given == fitting != room,
        "counted-both": given == fitting + 1,
        "no-limit": given == 0 != room,
        "as-many-again": given in range(1, room),
        "too-many": given != room,
    }
    return judged(seen, answer=given, fitting=fitting)
