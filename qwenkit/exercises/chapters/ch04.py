"""Chapter 04: ask the model."""

from __future__ import annotations

from urllib.parse import urlsplit

from qwenkit.cluster import kinds
from qwenkit.cluster.kinds import annotations_of, is_terminating, is_true
from qwenkit.exercises.exercise import PASSED, TODO, Verdict, exercise, judged, number, wrong
from qwenkit.exercises.facts import Facts
from qwenkit.inference.metrics import parse


@exercise("04.1")
def the_host_of_another_service(facts: Facts) -> Verdict:
    """A host names the service and its namespace, in the cluster's domain."""
    given, own = str(facts.answer).strip().lower(), facts.settings
    service = facts.find(kinds.KSVC, own.service) or {}
    here = urlsplit(service.get("status", {}).get("url", "")).hostname
    here = here or f"{own.service}.{own.namespace}.example.com"
    head, _, tail = here.partition(own.service)
    right = f"{head}chat{tail.replace(own.namespace, 'team-a', 1)}"
    seen = {
        "url": "/" in given or ":" in given,
        "address": given.replace(".", "").isdigit(),
        "this-service": given == here,
        "inside": ".svc" in given,
        "swapped": given.startswith("team-a"),
        "no-namespace": "team-a" not in given,
        "other-domain": True,
    }
    done = PASSED if given == right else judged(seen, answer=given, here=here)
    return TODO if facts.answer is None else done


@exercise("04.2")
def the_time_of_a_stream(facts: Facts) -> Verdict:
    """The server's own mean TTFT and TPOT say how long 200 tokens take."""
    if facts.answer is None:
        return TODO
    page = parse(facts.get("/metrics"))

    def mean(name: str) -> float:
        names = (f"vllm:{name}_seconds_{end}" for end in ("sum", "count"))
        total, count = (sum(page[key] for key in page if key.startswith(one)) for one in names)
        return total / count if count else 0.0

    first = mean("time_to_first_token")
    later = mean("time_per_output_token") or mean("inter_token_latency")
    right = first + 199 * later
    slips = {
        "gpu-time": right * facts.settings.time_scale,
        "milliseconds": 1000 * right,
        "first-each": 200 * first,
        "first-only": first,
        "one-token": later,
    }
    return number(facts.answer, right, slips, within=0.5) if later else wrong("no-stream")


@exercise("04.3")
def scaled_to_zero(facts: Facts) -> Verdict:
    """A Service is Ready while no pod runs, and Knative itself took the last one away."""
    if (service := facts.find(kinds.KSVC, facts.settings.service)) is None:
        return TODO
    labels = {kinds.SERVICE_LABEL: facts.settings.service}
    pods, revisions = facts.list(kinds.POD, labels), facts.list(kinds.REVISION, labels)
    asked = {
        key.rpartition("/")[2]: value
        for key, value in annotations_of(service["spec"]["template"]).items()
    }
    seen = {
        "ending": any(map(is_terminating, pods)),
        "max-scale": pods and asked.get("max-scale") == "0",
        "min-scale": pods and asked.get("min-scale", "0") != "0",
        "retention": pods and "scale-to-zero-pod-retention-period" in asked,
        "broken": not pods and not is_true(service, "Ready"),
        "by-hand": not pods and any(is_true(one, "Active") for one in revisions),
    }
    return TODO if pods and not any(seen.values()) else judged(seen)
