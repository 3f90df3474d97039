"""The HTTP surface of the API: what clients send and what they get back, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kube_cluster import Cluster, running
from places import DATA

from qwenkit.inference.metrics import parse
from qwenkit.sandbox.kube.discovery import Discovery
from qwenkit.sandbox.kube.kinds import Kinds

RECORDED = DATA / "cluster-api"
MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/apis/serving.knative.dev/v1/namespaces/default/services"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kube")) as cluster:
        yield cluster


def config_map(name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"set": name[0]}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def events(cluster: Cluster, path: str, **query: str) -> list[tuple[str, Any]]:
    """Watch for a second, and return what came."""
    query = {"watch": "1", "timeoutSeconds": "1"} | query
    lines = cluster.http("GET", path, params=query).text.splitlines()
    return [(event["type"], event["object"]) for event in map(json.loads, lines)]


def names(found: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    return [(kind, obj["metadata"]["name"]) for kind, obj in found]


@pytest.mark.parametrize("path", sorted(RECORDED.glob("_api*_v*.json")), ids=lambda p: p.stem)
def test_resources_are_those_of_a_real_cluster(path: Path) -> None:
    recorded = json.loads(path.read_text())
    served = Discovery(Kinds()).document(path.stem.strip("_").replace("_", "/"))
    assert served is not None
    assert {k: v for k, v in served.items() if k != "resources"} == {
        k: v for k, v in recorded.items() if k != "resources"
    }
    real = {entry["name"]: entry for entry in recorded["resources"]}
    # Read-only here, and stored as v1beta1 there, which only the hash shows.
    definitions = real.get("customresourcedefinitions", {})
    differing = {key: definitions.get(key) for key in ("verbs", "storageVersionHash")}
    for entry in served["resources"]:
        if entry["name"] == "customresourcedefinitions":
            entry = {**entry, **differing}
        assert entry == real[entry["name"]]


def test_every_group_document_is_served(cluster: Cluster) -> None:
    groups = cluster.http("GET", "/apis").json()["groups"]
    for group in groups:
        for version in group["versions"]:
            found = cluster.http("GET", f"/apis/{version['groupVersion']}")
            assert found.json()["groupVersion"] == version["groupVersion"]
        assert cluster.http("GET", f"/apis/{group['name']}").json()["kind"] == "APIGroup"
    recorded = json.loads((RECORDED / "_apis.json").read_text())["groups"]
    assert {g["name"] for g in groups} <= {g["name"] for g in recorded}


def test_without_the_token_nothing(cluster: Cluster) -> None:
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
        refused = cluster.http("GET", MAPS, headers=headers)
        assert refused.status_code == 401
        assert refused.json() == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": "Unauthorized",
            "reason": "Unauthorized",
            "code": 401,
        }
    for path in ("/readyz", "/healthz", "/livez", "/version"):
        assert cluster.http("GET", path, headers={"Authorization": ""}).status_code == 200
        assert cluster.http("GET", path, headers={"Authorization": "Bearer no"}).status_code == 401
    for path in ("/api", "/readyz/ping", "/openapi/v2", MAPS):
        assert cluster.http("GET", path, headers={"Authorization": ""}).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/apis/foo/v1/bars", 404, "the server could not find the requested resource"),
        ("GET", "/api/v1/pods/x", 404, "the server could not find the requested resource"),
        ("GET", f"{MAPS}/no", 404, 'configmaps "no" not found'),
        ("GET", f"{SERVICES}/no", 404, 'services.serving.knative.dev "no" not found'),
        ("PUT", MAPS, 405, "the server does not allow this method on the requested resource"),
        ("DELETE", f"{MAPS}/no", 404, 'configmaps "no" not found'),
        ("GET", f"{MAPS}?labelSelector=a%20b", 400, None),
        ("GET", f"{MAPS}?resourceVersion=x", 400, None),
        ("GET", f"{MAPS}?watch=1&sendInitialEvents=true", 422, None),
        ("POST", MAPS, 400, None),
        ("GET", "/api/v1/namespaces/default/pods/x/exec", 501, None),
    ],
)
def test_refusals(
    cluster: Cluster, method: str, path: str, status: int, message: str | None
) -> None:
    answer = cluster.http(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert message is None or answer.json()["message"] == message


def test_pages_show_one_moment(cluster: Cluster) -> None:
    for name in ("p1", "p2", "p3"):
        assert cluster.http("POST", MAPS, json=config_map(name)).status_code == 201
    query = {"labelSelector": "set=p", "limit": "2"}
    first = cluster.http("GET", MAPS, params=query).json()
    assert first["kind"] == "ConfigMapList"
    assert first["metadata"]["remainingItemCount"] == 1
    cluster.http("DELETE", f"{MAPS}/p3")
    token = first["metadata"]["continue"]
    second = cluster.http("GET", MAPS, params={**query, "continue": token}).json()
    found = [item["metadata"]["name"] for item in first["items"] + second["items"]]
    assert found == ["p1", "p2", "p3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert cluster.http("GET", MAPS, params={"continue": "?"}).status_code == 400


def test_watch_from_nothing_and_from_a_version(cluster: Cluster) -> None:
    made = cluster.http("POST", MAPS, json=config_map("w1", a="1")).json()
    only = {"labelSelector": "set=w"}
    assert names(events(cluster, MAPS, **only)) == [("ADDED", "w1")]
    cluster.http("PATCH", f"{MAPS}/w1", json={"data": {"a": "2"}}, headers=MERGE)
    cluster.http("PATCH", f"{MAPS}/w1", json={"metadata": {"labels": None}}, headers=MERGE)
    since = made["metadata"]["resourceVersion"]
    found = events(cluster, MAPS, resourceVersion=since, **only)
    assert names(found) == [("MODIFIED", "w1"), ("DELETED", "w1")]
    left = found[-1][1]["metadata"]
    assert int(left["resourceVersion"]) == cluster.store.revision
    assert left["labels"] == {"set": "w"}


def test_a_version_that_is_too_old(cluster: Cluster, tmp_path: Path) -> None:
    def reload(store: Any) -> None:
        store.save(tmp_path / "s.json")
        store.load(tmp_path / "s.json")

    cluster.on_loop(reload)
    ((kind, status),) = events(cluster, MAPS, resourceVersion="1")
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


def test_tables(cluster: Cluster) -> None:
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    table = cluster.http("GET", "/api/v1/namespaces/default", headers=accept).json()
    assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Status", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:2] == ["default", "Active"]
    assert row["object"]["kind"] == "PartialObjectMetadata"


def test_unknown_fields(cluster: Cluster) -> None:
    spec = {"template": {"spec": {"containers": [{"image": "i", "lifecycle": {}}]}}, "foo": 1}
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "u"},
        "spec": spec,
    }
    strict = cluster.http("POST", SERVICES, json=service, params={"fieldValidation": "Strict"})
    assert strict.status_code == 400
    assert strict.json()["message"] == (
        'Service in version "v1" cannot be handled as a Service: strict decoding error: '
        'unknown field "spec.template.spec.containers[0].lifecycle", unknown field "spec.foo"'
    )
    warned = cluster.http("POST", SERVICES, json=service)
    assert warned.status_code == 201
    assert '299 - "unknown field \\"spec.foo\\""' in warned.headers["Warning"]
    assert "foo" not in warned.json()["spec"]
    query = {"fieldValidation": "Ignore"}
    silent = cluster.http("PUT", f"{SERVICES}/u", json=service, params=query)
    assert "Warning" not in silent.headers
    assert "metadata.resourceVersion: Invalid value" in silent.json()["message"]


def test_status_is_a_subresource(cluster: Cluster) -> None:
    body = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "st"},
        "spec": {"template": {"spec": {"containers": [{"image": "i"}]}}},
        "status": {"url": "forged"},
    }
    assert "status" not in cluster.http("POST", SERVICES, json=body).json()
    told = cluster.http(
        "PATCH", f"{SERVICES}/st/status", json={"status": {"url": "u"}, "spec": {}}, headers=MERGE
    ).json()
    assert (told["status"], told["spec"], told["metadata"]["generation"]) == (
        {"url": "u"},
        body["spec"],
        1,
    )
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    assert cluster.http("PATCH", f"{SERVICES}/st", json={}, headers=strategic).status_code == 415


def test_apply_takes_yaml_and_wants_a_manager(cluster: Cluster) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {a: '1'} # a comment\n"
    path = f"{MAPS}/y"
    anonymous = cluster.http("PATCH", path, data=text, headers=APPLY)
    assert "fieldManager: Required value" in anonymous.json()["message"]
    query = {"fieldManager": "m"}
    made = cluster.http("PATCH", path, data=text, headers=APPLY, params=query)
    assert (made.status_code, made.json()["data"]) == (201, {"a": "1"})
    again = cluster.http("PATCH", path, data=text, headers=APPLY, params=query)
    assert (again.status_code, again.json()) == (200, made.json())
    broken = cluster.http("PATCH", path, data="a: [", headers=APPLY, params=query)
    assert broken.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {"metadata": []},
        {"metadata": {"name": 1}},
        {"metadata": {"name": "x", "labels": []}},
        {"metadata": {"name": "x", "labels": {"a": True}}},
        {"metadata": {"name": "x"}, "data": {"a": 1}},
        {"metadata": {"name": "x"}, "data": "a"},
        {"metadata": {"name": "x", "namespace": "other"}},
        {"kind": "Secret", "metadata": {"name": "x"}},
    ],
)
def test_wrong_types_are_the_clients_mistake(cluster: Cluster, body: Any) -> None:
    assert cluster.http("POST", MAPS, json=body).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"k8s", 400, "no protobuf of Kubernetes"),
        (b"k8s\x00\x0a", 400, "a number does not end"),
        (b"k8s\x00\x0a\x7f", 400, "unexpected end of the message"),
        (b"k8s\x00\x08\x01\x12\x00", 400, "a number where bytes belong"),
        (b"k8s\x00\x0a\x07\x12\x05Lease", 415, "the kind Lease in protobuf is not part"),
        (
            b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x03\x7a\x01x",
            415,
            "field 15 of ConfigMap in protobuf is not part of the sandbox; send JSON",
        ),
    ],
)
def test_broken_and_strange_protobuf(cluster: Cluster, body: bytes, status: int, said: str) -> None:
    kind = {"Content-Type": "application/vnd.kubernetes.protobuf"}
    answer = cluster.http("POST", MAPS, data=body, headers=kind)
    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_preconditions_of_a_delete(cluster: Cluster) -> None:
    made = cluster.http("POST", MAPS, json=config_map("d")).json()["metadata"]
    wrong = {"preconditions": {"uid": "other"}}
    assert cluster.http("DELETE", f"{MAPS}/d", json=wrong).status_code == 409
    right = {"preconditions": {"uid": made["uid"]}}
    dry = cluster.http("DELETE", f"{MAPS}/d", json=right, params={"dryRun": "All"}).json()
    assert cluster.http("DELETE", f"{MAPS}/d", json=right).json() == dry
    assert dry["details"] == {"name": "d", "kind": "configmaps", "uid": made["uid"]}


def test_it_counts_its_requests(cluster: Cluster) -> None:
    name = 'apiserver_request_total{code="200",verb="LIST"}'

    def counted() -> float:
        return parse(cluster.http("GET", "/metrics").text).get(name, 0)

    before = counted()
    cluster.http("GET", "/api/v1/namespaces")
    cluster.http("OPTIONS", "/healthz")
    assert counted() == before + 1
    assert parse(cluster.http("GET", "/metrics").text)[
        'apiserver_request_total{code="200",verb="other"}'
    ]
