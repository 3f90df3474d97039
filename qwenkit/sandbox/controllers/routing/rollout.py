"""How does the traffic of ``latestRevision`` move to a new revision in a gradual rollout?

The first step is one percent. The time that the gateway needs to apply it is the shortest time of
a step; the rest of ``rollout-duration`` is divided into steps of equal size. The state is kept in
an annotation of the Ingress, so that it outlives its controller. Times are nanoseconds of the
epoch, as in that annotation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

from qwenkit.sandbox.controllers.routing.traffic_plan import TrafficPlan

_SECOND = 1_000_000_000
_STEP_PARAMS = ("starttime", "nextStepTime", "stepDuration", "stepSize")


@dataclass(frozen=True)
class Share:
    """A revision's percentage of the route's traffic."""

    revision: str
    percent: int


@dataclass(frozen=True)
class StepParams:
    """When and by how much the traffic moves; all zero if nothing moves."""

    started: int = 0
    next_at: int = 0
    every: int = 0
    size: int = 0


@dataclass(frozen=True)
class ConfigurationRollout:
    """The traffic of one Configuration under one tag: oldest revision first."""

    configuration: str
    tag: str
    percent: int
    shares: tuple[Share, ...]
    steps: StepParams = StepParams()

    @property
    def done(self) -> bool:
        """Whether one revision has all of it."""
        return len(self.shares) < 2


@dataclass(frozen=True)
class Rollout:
    """All of a route's ``latestRevision`` targets, ordered by tag and Configuration."""

    parts: tuple[ConfigurationRollout, ...] = ()

    @property
    def done(self) -> bool:
        """Whether no traffic is moving."""
        return all(part.done for part in self.parts)

    def find(self, tag: str, configuration: str) -> ConfigurationRollout | None:
        """Return the part of one target."""
        wanted = (tag, configuration)
        return next((p for p in self.parts if (p.tag, p.configuration) == wanted), None)

    def due(self) -> int:
        """Return when the next step is due, 0 if none is planned."""
        return min((part.steps.next_at for part in self.parts if part.steps.next_at), default=0)


def goal(plan: TrafficPlan) -> Rollout:
    """Return the traffic at the end of the rollout."""
    parts = [
        ConfigurationRollout(
            target.configuration, tag, target.percent, (Share(target.revision, target.percent),)
        )
        for tag, targets in plan.by_tag.items()
        for target in targets
        if target.latest and target.percent
    ]
    return Rollout(tuple(sorted(parts, key=lambda part: (part.tag, part.configuration))))


def advance(wanted: Rollout, before: Rollout | None, now: int) -> Rollout:
    """Return the traffic now, on its way from ``before`` to ``wanted``."""
    if before is None:
        return wanted
    parts = []
    for part in wanted.parts:
        old = before.find(part.tag, part.configuration)
        moves = old is not None and old.shares and part.percent > 1
        parts.append(_advance(part, old, now) if old and moves else part)
    return Rollout(tuple(parts))


def observe_ready(rollout: Rollout, now: int, duration_s: float) -> Rollout:
    """Plan the steps of rollouts that have waited for the gateway, which is ready now."""
    parts = []
    for part in rollout.parts:
        waits = part.steps.started and not part.steps.every
        parts.append(replace(part, steps=_steps(part, now, duration_s)) if waits else part)
    return Rollout(tuple(parts))


def dump(rollout: Rollout) -> str:
    """Return the annotation's text."""
    parts = [_as_json(part) for part in rollout.parts]
    return json.dumps({"configurations": parts} if parts else {}, separators=(",", ":"))


def load(text: str) -> Rollout | None:
    """Read an annotation; return None if it is missing or invalid."""
    try:
        parts = tuple(map(_from_json, json.loads(text).get("configurations", [])))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Rollout(parts) if all(map(_adds_up, parts)) else None


def _adds_up(part: ConfigurationRollout) -> bool:
    percents = [share.percent for share in part.shares]
    return all(percent > 0 for percent in percents) and sum(percents) == part.percent <= 100


def _steps(part: ConfigurationRollout, now: int, duration_s: float) -> StepParams:
    least_s = max(1.0, math.ceil((now - part.steps.started) / _SECOND))
    left_s, left = max(1.0, duration_s - least_s), part.percent - 1
    count = min(max(1.0, left_s / least_s), left)
    every = int(left_s / count * _SECOND)
    # Go rounds half away from zero.
    return StepParams(part.steps.started, now + every, every, math.floor(left / count + 0.5))


def _advance(
    part: ConfigurationRollout, old: ConfigurationRollout, now: int
) -> ConfigurationRollout:
    shares = _adjusted(old.shares, part.percent - old.percent)
    newest = part.shares[0].revision
    if newest != old.shares[-1].revision:
        begun = (*_less_one(shares), Share(newest, 1))
        return replace(part, shares=begun, steps=StepParams(started=now))
    if len(shares) < 2:
        return part
    moving = replace(part, shares=shares, steps=old.steps)
    due = old.steps.size and now >= old.steps.next_at
    return _stepped(moving, now) if due else moving


def _adjusted(shares: tuple[Share, ...], more: int) -> tuple[Share, ...]:
    """Add to the share of the newest revision, or take from the oldest."""
    if more >= 0:
        return (*shares[:-1], replace(shares[-1], percent=shares[-1].percent + more))
    less, kept = -more, []
    for share in shares:
        taken = min(less, share.percent)
        less -= taken
        if share.percent > taken:
            kept.append(replace(share, percent=share.percent - taken))
    return tuple(kept)


def _less_one(shares: tuple[Share, ...]) -> tuple[Share, ...]:
    """Free one percent, from the newest revision that has any."""
    last = replace(shares[-1], percent=shares[-1].percent - 1)
    return tuple(share for share in (*shares[:-1], last) if share.percent)


def _stepped(part: ConfigurationRollout, now: int) -> ConfigurationRollout:
    """Move one step's traffic to the newest revision, first from the next older one."""
    *older, newest = part.shares
    left = part.steps.size
    while left and older:
        giver = older.pop()
        if giver.percent > left:
            older.append(replace(giver, percent=giver.percent - left))
            break
        left -= giver.percent
    percent = part.percent - sum(share.percent for share in older)
    shares = (*older, replace(newest, percent=percent))
    steps = replace(part.steps, next_at=now + part.steps.every) if older else StepParams()
    return replace(part, shares=shares, steps=steps)


def _as_json(part: ConfigurationRollout) -> dict[str, Any]:
    steps = zip(_STEP_PARAMS, astuple(part.steps), strict=True)
    return {
        "configurationName": part.configuration,
        **({"tag": part.tag} if part.tag else {}),
        "percent": part.percent,
        "revisions": [{"revisionName": s.revision, "percent": s.percent} for s in part.shares],
        "stepParams": {name: value for name, value in steps if value},
    }


def _from_json(entry: Mapping[str, Any]) -> ConfigurationRollout:
    steps = entry.get("stepParams", {})
    return ConfigurationRollout(
        entry["configurationName"],
        entry.get("tag", ""),
        entry["percent"],
        tuple(Share(s["revisionName"], s["percent"]) for s in entry.get("revisions", [])),
        StepParams(*(int(steps.get(name, 0)) for name in _STEP_PARAMS)),
    )
