"""Chapter 07: roll out a change, and roll it back."""

from __future__ import annotations

from collections import Counter

from qwenkit.cluster.kinds import KSVC, is_true, latest_created, latest_ready
from qwenkit.exercises.exercise import PASSED, TODO, Verdict, exercise, judged, wrong
from qwenkit.exercises.facts import Facts


@exercise("07.2")
def a_tenth_with_a_tag(facts: Facts) -> Verdict:
    """90 % go to an earlier revision, 10 % to the latest, which has the tag."""
    latest, shares, tags, is_routed = _routes(facts)
    others = [shares[name] for name in shares if name != latest]
    if not others:
        return TODO
    split = shares[latest], max(others)
    service = facts.find(KSVC, facts.settings.service) or {}
    if latest_created(service) != latest:
        return wrong("being-made", latest=latest)
    if split != (10, 90):
        found = {(90, 10): "swapped", (0, 90): "not-the-latest", (0, 100): "dark"}
        return wrong(found.get(split, "share"), latest=latest, found=shares[latest])
    if tags.get("candidate") != latest:
        return wrong("other-tag" if tags else "no-tag", latest=latest)
    return PASSED if is_routed else wrong("not-ready")


@exercise("07.3")
def back_to_the_earlier_one(facts: Facts) -> Verdict:
    """All requests go to one earlier revision; no new one was made."""
    service = facts.find(KSVC, facts.settings.service) or {}
    latest, shares, tags, is_routed = _routes(facts)
    if not shares and not tags:
        return TODO
    checks = {
        "only-a-tag": shares[latest] == 100 and tags,
        "forward": shares[latest] == 100,
        "still-split": shares[latest],
        "two-earlier-ones": 100 not in shares.values(),
        "deployed": latest_created(service) != latest,
        "not-ready": not is_routed,
    }
    return judged(checks, latest=latest, found=shares[latest])


def _routes(facts: Facts) -> tuple[str, Counter[str], dict[str, str], bool]:
    """Return the latest ready revision, % by revision, revision by tag, and whether all is so.

    There is no share and no tag while the Service just follows its latest revision.
    """
    service = facts.find(KSVC, facts.settings.service) or {}
    latest, shares, tags = latest_ready(service), Counter[str](), dict[str, str]()
    routes = service.get("spec", {}).get("traffic") or []
    if any("revisionName" in route or "tag" in route for route in routes):
        for route in routes:
            name = route.get("revisionName", latest)
            shares[name] += route.get("percent") or 0
            tags |= {route["tag"]: name} if "tag" in route else {}
    return latest, shares, tags, is_true(service, "RoutesReady")
