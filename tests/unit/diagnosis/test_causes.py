"""Real and recorded messages are explained by the one cause, and nothing else is claimed.

``pods.json`` holds whole objects, ``pods-more.json`` the message and where it stands, with its
source (a file of the project that writes it, or an issue where it was reported).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import DATA

from qwenkit.cluster.diagnosis.explain import diagnose
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import LogName, Snapshot
from qwenkit.cluster.diagnosis.tidy import tidy
from qwenkit.cluster.kinds import CSI_DRIVER

Case = Mapping[str, Any]
Obj = dict[str, Any]
LABELS = {"serving.knative.dev/service": "qwen"}


def _read(name: str) -> list[Case]:
    found: list[Case] = json.loads((DATA / "reports" / name).read_text("utf-8"))
    return found


WHOLE, MESSAGES = _read("pods.json"), _read("pods-more.json")


def _whole(case: Case) -> Snapshot:
    objects: list[Obj] = [
        {"apiVersion": "v1", **one, "metadata": {"namespace": "default", **one["metadata"]}}
        for one in case["objects"]
    ]
    for one in objects:
        if one["kind"] == "Pod":
            one["metadata"]["labels"] = LABELS
    logs = {LogName("p", "c", True): case["log"]} if case["log"] else {}
    return Snapshot("qwen", tuple(objects), logs)


def _built(case: Case) -> Snapshot:
    """Return a Service and its pod with the case's message where the cluster puts it."""
    own: Obj = {"name": "vllm-container", "image": "registry.example.com/team/vllm:0.8.5"}
    own |= {"ports": [{"containerPort": case["port"]}]} if "port" in case else {}
    spec: Obj = {"containers": [own], "nodeName": case.get("node")}
    if "claim" in case:
        spec["volumes"] = [{"persistentVolumeClaim": {"claimName": case["claim"]}}]
    waits = {"type": "Ready", "status": "Unknown", "reason": "RevisionMissing", "message": "…"}
    configured = [{"type": "ConfigurationsReady", "status": "True"}] * bool(case.get("ready"))
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "qwen", "namespace": "default", "generation": 1, "uid": "s"}
        | case.get("meta", {}),
        "spec": {"template": {"spec": spec}},
        "status": {
            "observedGeneration": 1,
            "conditions": [case.get("service") or waits, *configured],
        },
    }
    status = {"phase": "Pending", "conditions": [], **case.get("status", {})}
    if case.get("ready"):
        status |= {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    if "container" in case:
        states = [{"name": "vllm-container", **case["container"]}, case.get("queue")]
        status["containerStatuses"] = [state for state in states if state]
    status |= {"initContainerStatuses": [case["init"]]} if "init" in case else {}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "labels": LABELS},
        "spec": spec,
        "status": status,
    }
    events = [_event(number, event) for number, event in enumerate(case.get("events", []))]
    logs = {LogName("p", "vllm-container"): case["log"]} if "log" in case else {}
    objects = [service, *[pod] * case.get("pods", 1), *case.get("more", []), *events]
    return Snapshot("qwen", tuple(objects), logs)


def _event(number: int, event: Case) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"e{number}", "namespace": "default"},
        "involvedObject": {"kind": event["kind"], "name": event["name"]},
        **{name: event[name] for name in ("reason", "message", "count")},
    }


def _names(case: Case, found: Explanation) -> None:
    said = f"{found.cause} | {found.fix}"
    assert re.search(case["mention"], said, re.IGNORECASE), said
    assert not (case["never"] and re.search(case["never"], said, re.IGNORECASE)), said
    assert found.fix
    assert "  " not in said


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case["name"])
def test_a_report_is_explained(case: Case) -> None:
    found = diagnose(_whole(case))
    _names(case, found)
    assert found.kind not in ("unknown", "starting", "ready")


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case["name"])
def test_a_message_names_its_cause(case: Case) -> None:
    assert case["source"]
    found = diagnose(_built(case))
    _names(case, found)
    assert found.kind == case["kind"]
    assert found.permanent == case.get("permanent", found.permanent)
    assert found.evidence


def _broken(value: Any) -> st.SearchStrategy[Any]:
    """Return a value with any of its parts replaced by something of a wrong type, or left out."""
    wrong = st.sampled_from([None, 0, "x", [], {}, [None], ["x"], {"x": None}, True, 1.5])
    if isinstance(value, dict):
        inner: st.SearchStrategy[Any] = st.fixed_dictionaries(
            {key: _broken(each) for key, each in value.items()}
        )
    elif isinstance(value, list):
        inner = st.tuples(*map(_broken, value)).map(list)
    else:
        inner = st.just(value)
    return st.integers(0, 30).flatmap(lambda n: wrong if n == 0 else inner)


@given(st.data())
def test_no_garbage_is_a_crash(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(MESSAGES))
    whole = _built(case)
    objects: list[Obj] = [
        one | {part: data.draw(_broken(one[part])) for part in ("status", "metadata", "spec")}
        if "spec" in one
        else one | data.draw(st.fixed_dictionaries({k: _broken(v) for k, v in one.items()}))
        for one in whole.objects
    ]
    found = diagnose(Snapshot("qwen", tuple(map(tidy, objects)), whole.logs))
    assert found.cause


def _ingress(changed: str, now: str) -> Snapshot:
    reason = {"reason": "IngressNotConfigured", "message": "Ingress has not yet been reconciled."}
    waits = {"type": "RoutesReady", "status": "Unknown", "lastTransitionTime": changed, **reason}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "lastTimestamp": now}
    return _built({"ready": True, "service": waits, "more": [event]})


def test_an_ingress_is_waited_for_while_it_is_young() -> None:
    young = diagnose(_ingress("2026-01-01T00:00:00Z", "2026-01-01T00:00:30Z"))
    assert (young.kind, young.permanent) == ("starting", False)
    old = diagnose(_ingress("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z"))
    assert (old.kind, old.permanent) == ("ingress", True)


def test_a_server_is_waited_for_while_it_is_young_or_says_what_it_does() -> None:
    def found(started: str, log: str) -> str:
        running = {"state": {"running": {"startedAt": started}}}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}}
        event |= {"lastTimestamp": "2026-01-01T02:00:00Z"}
        return diagnose(_built({"container": running, "log": log, "more": [event]})).kind

    loads = "INFO 01-01 00:00:00 llm_engine.py:98] Initializing an LLM engine (v0.4.1)"
    assert found("2026-01-01T01:59:00Z", "") == "starting"
    assert found("2026-01-01T01:30:00Z", "") == "unknown"
    assert found("2026-01-01T01:30:00Z", loads) == "starting"
    assert found("2026-01-01T00:00:00Z", loads) == "unknown"


def test_no_driver_is_claimed_only_where_all_are_known() -> None:
    claim = next(case for case in MESSAGES if case["name"] == "no-csi-driver")
    seen = _built(claim)
    objects = tuple(one for one in seen.objects if one["kind"] != "CSIDriver")
    assert diagnose(Snapshot("qwen", objects)).kind == "unknown"
    whole = Snapshot("qwen", objects, whole=frozenset({CSI_DRIVER}))
    assert diagnose(whole).kind == "csi-missing"


def test_one_eviction_is_no_fate() -> None:
    case = next(case for case in MESSAGES if case["name"] == "evicted-memory")
    seen = _built(case)
    assert not diagnose(seen).permanent
    (pod,) = (one for one in seen.objects if one["kind"] == "Pod")
    again = pod | {"metadata": {**pod["metadata"], "name": "p2", "uid": "u2"}}
    assert diagnose(Snapshot("qwen", (*seen.objects, again))).permanent
