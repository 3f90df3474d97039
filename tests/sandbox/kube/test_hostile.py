"""What no client should send: a refusal that says why, and a server that goes on as before."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kube_cluster import Cluster, running

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
JSON, YAML = "application/json", "application/yaml"
ALIASES = "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nmetadata: {name: laughs}\n"
DEEP = '{"metadata":{"name":"deep"},"data":' + '{"a":' * 5000 + "1" + "}" * 5001


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kube")) as cluster:
        made = cluster.http("POST", MAPS, json={"metadata": {"name": "there"}})
        assert made.status_code == 201
        yield cluster


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (JSON, b"[" * 200_000, "nested too deeply"),
        (JSON, DEEP.encode(), "nested too deeply"),
        (JSON, b"\xff\xfe{", "not UTF-8"),
        (JSON, b'{"metadata":{"name":"x"},"data":{"a":"\\ud800"}}', "not UTF-8"),
        (JSON, b'{"metadata":{"name":"x"},"data":{"a":NaN}}', "not JSON compliant"),
        (YAML, b"a: &a [*a]\nmetadata: {name: loop}\n", "aliases"),
        (YAML, ALIASES.encode(), "aliases"),
        (YAML, b"a: [\n", "no YAML document"),
        (f"{JSON}; charset=bogus", b"{", "error decoding"),
    ],
)
def test_a_body_that_cannot_be_read_back_is_refused(
    cluster: Cluster, kind: str, body: bytes, said: str
) -> None:
    answer = cluster.http("POST", MAPS, data=body, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    names = [item["metadata"]["name"] for item in cluster.http("GET", MAPS).json()["items"]]
    assert names == ["there"]


@pytest.mark.parametrize(
    ("method", "query", "body", "status"),
    [
        ("DELETE", {}, {"preconditions": "x"}, 400),
        ("DELETE", {}, [], 404),
        ("DELETE", {"propagationPolicy": "Zap"}, None, 422),
        ("DELETE", {"dryRun": "Maybe"}, None, 422),
        ("PATCH", {}, [{"op": "add", "path": 5, "value": 1}], 422),
        ("PATCH", {}, [{"op": "zap", "path": "/data"}], 422),
        ("PATCH", {}, {"op": "add"}, 400),
        ("PATCH", {"dryRun": "Maybe"}, [], 422),
    ],
)
def test_a_request_that_makes_no_sense_changes_nothing(
    cluster: Cluster, method: str, query: dict[str, str], body: object, status: int
) -> None:
    before = cluster.http("GET", f"{MAPS}/there").json()
    path = f"{MAPS}/{'nothing' if body == [] and method == 'DELETE' else 'there'}"
    headers = {"Content-Type": "application/json-patch+json"} if method == "PATCH" else {}
    data = None if body is None else json.dumps(body)
    answer = cluster.http(method, path, params=query, data=data, headers=headers)
    assert answer.status_code == status
    assert answer.json()["kind"] == "Status"
    assert cluster.http("GET", f"{MAPS}/there").json() == before


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"resources": {"limits": {"cpu": "zz"}}}, "quantities must match"),
        ({"command": "sleep"}, "Container.spec.containers.command"),
        ({"readinessProbe": 5}, "Container.spec.containers.readinessProbe"),
    ],
)
def test_a_pod_that_no_node_could_read_is_refused(
    cluster: Cluster, container: dict[str, object], said: str
) -> None:
    spec = {"containers": [{"name": "main", "image": "x", **container}]}
    answer = cluster.http("POST", PODS, json={"metadata": {"name": "p"}, "spec": spec})
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_status_keeps_its_shape(cluster: Cluster) -> None:
    spec = {"containers": [{"name": "main", "image": "x"}]}
    cluster.http("POST", PODS, json={"metadata": {"name": "shaped"}, "spec": spec})
    answer = cluster.http(
        "PATCH",
        f"{PODS}/shaped/status",
        data='{"status":{"conditions":5}}',
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 400


NINES = "9" * 5000
ENDLESS = {"op": "add", "path": f"/metadata/finalizers/{NINES}", "value": 1}

DOUBLING = [{"op": "copy", "from": "", "path": f"/a{number}"} for number in range(40)]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/api/v1/namespaces", {"metadata": {}}, 422, "name or generateName is required"),
        ("GET", f"{MAPS}?resourceVersion={NINES}", None, 400, "strconv.ParseUint"),
        ("GET", f"{MAPS}?limit={NINES}", None, 400, "value out of range"),
        ("GET", f"{MAPS}?limit=%C2%B2", None, 400, "invalid syntax"),
        ("GET", f"{MAPS}?watch=1&timeoutSeconds={NINES}", None, 400, "value out of range"),
        ("GET", f"{MAPS}?continue=W0luZmluaXR5LCAiIiwgIiJd", None, 400, "continue key"),
        ("GET", f"{MAPS}?fieldSelector==", None, 400, "field label not supported"),
        ("DELETE", f"{MAPS}/there?gracePeriodSeconds={NINES}", None, 400, "value out of range"),
        ("DELETE", f"{MAPS}/there", {"gracePeriodSeconds": 10**30}, 400, "int64"),
        ("DELETE", f"{MAPS}/there", {"gracePeriodSeconds": 1.5}, 400, "int64"),
        ("PATCH", f"{MAPS}/there", [ENDLESS], 422, "rejected our request"),
        ("PATCH", f"{MAPS}/there", [None], 422, "rejected our request"),
        ("PATCH", f"{MAPS}/there", DOUBLING, 413, "large"),
        ("PATCH", f"{MAPS}/there", [{"op": "test"}] * 10_001, 413, "is 10000, got 10001"),
        ("PATCH", f"{MAPS}/there?fieldManager={'x' * 200}", [], 422, "at most 128"),
        ("POST", MAPS, {"metadata": {"name": "x"}, "data": {"a": "x" * 2**21}}, 413, "too large"),
    ],
)
def test_numbers_and_patches_without_bounds(
    cluster: Cluster, method: str, path: str, body: object, status: int, said: str
) -> None:
    headers = {"Content-Type": "application/json-patch+json"} if method == "PATCH" else {}
    data = None if body is None else json.dumps(body)
    answer = cluster.http(method, path, data=data, headers=headers)
    assert (answer.status_code, said in answer.json()["message"]) == (status, True), answer.text


@pytest.mark.parametrize("value", ["2026-13-45T00:00:00Z", "0001-01-01T00:00:00+14:00", "now"])
def test_a_time_that_is_none_is_refused(cluster: Cluster, value: str) -> None:
    event = {"metadata": {"name": "e"}, "involvedObject": {}, "lastTimestamp": value}
    answer = cluster.http("POST", MAPS.replace("configmaps", "events"), json=event)
    assert answer.status_code == 400
    assert "parsing time" in answer.json()["message"]


@pytest.mark.parametrize("name", ["Authorization", "User-Agent", "Expect", "Impersonate-User"])
def test_a_header_may_hold_any_bytes(cluster: Cluster, name: str) -> None:
    answer = cluster.http("GET", MAPS, headers={name: b"Bearer \xed\xa0\x80\xff"})
    assert answer.status_code in (200, 400, 401, 403)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
FIELDS = st.sampled_from(["metadata", "spec", "status", "data", "kind", "containers", "volumes"])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(obj=VALUES | st.dictionaries(FIELDS, VALUES), kind=st.sampled_from([MAPS, PODS]))
def test_no_object_makes_the_server_fail(cluster: Cluster, obj: object, kind: str) -> None:
    answer = cluster.http("POST", kind, json=obj)
    assert answer.status_code in (201, 400, 404, 409, 422)
    assert cluster.http("GET", kind).status_code == 200
