"""Any value anywhere in a Service is accepted or refused, never an error of ours."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from knative_objects import CLAIM, GROUP, WRITE, claiming, pod_spec

from qwenkit.admission.review import review
from qwenkit.errors import Rejected

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    children = [((*path, key), child) for key, child in items]
    return [place for place, _ in children] + [
        place
        for where, child in children
        if isinstance(child, dict | list)
        for place in _places(child, where)
    ]


def _full() -> dict[str, Any]:
    obj = claiming()
    spec = pod_spec(obj)
    spec["containers"][0] |= {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "ports": [{"containerPort": 8080, "name": "http1"}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 5},
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "securityContext": {"runAsUser": 1},
    }
    spec["securityContext"] = {"fsGroup": 1}
    obj["spec"]["traffic"] = [{"percent": 100, "tag": "a"}]
    obj["spec"]["template"]["metadata"] = {"annotations": {f"{GROUP}/target": "2"}}
    obj["metadata"]["ownerReferences"] = [{"kind": "Service", "name": "x"}]
    return obj


PLACES = _places(_full())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PLACES), json_values)
def test_any_value_anywhere_is_taken_or_refused(place: tuple[Any, ...], value: Any) -> None:
    obj = _full()
    node: Any = obj
    for step in place[:-1]:
        node = node[step]
    node[place[-1]] = value
    features = {CLAIM: "enabled", WRITE: "enabled"}
    try:
        accepted = review(obj, features=features)
    except Rejected:
        return
    assert review(accepted, features=features) == accepted
