"""The official Python client against the sandbox's API: the calls that qwenkit itself makes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kube_cluster import Cluster, running
from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    UnprocessibleEntityError,
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kube")) as cluster:
        yield cluster


@contextmanager
def connected(cluster: Cluster) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(cluster.kubeconfig), context="sandbox") as api:
        yield api
        # The client leaves its connections open; the server's TLS would wait for them.
        api.rest_client.pool_manager.clear()


@pytest.fixture(scope="module")
def dynamic(cluster: Cluster) -> Iterator[DynamicClient]:
    with connected(cluster) as api:
        yield DynamicClient(api, cache_file=str(cluster.folder / "discovery.json"))


@pytest.fixture
def services(dynamic: DynamicClient) -> Any:
    return dynamic.resources.get(api_version="serving.knative.dev/v1", kind="Service")


def ksvc(name: str, *, image: str = "a/b:1", **annotations: str) -> dict[str, Any]:
    template = {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"template": template},
    }


def apply(services: Any, body: dict[str, Any], **how: Any) -> Any:
    how = {"field_manager": "qwenkit"} | how
    return services.server_side_apply(body=body, namespace="default", **how)


def test_apply_get_list_delete(services: Any) -> None:
    made = apply(services, ksvc("one", target="2"))
    assert made.metadata.generation == 1
    assert made.metadata.annotations["serving.knative.dev/creator"] == "admin"
    again = apply(services, ksvc("one", target="2"))
    assert again.metadata.resourceVersion == made.metadata.resourceVersion
    found = services.get(namespace="default", label_selector="app=one")
    assert [item.metadata.name for item in found.items] == ["one"]
    changed = apply(services, ksvc("one", target="4"))
    assert changed.metadata.generation == 2
    gone = services.delete(name="one", namespace="default")
    assert (gone.kind, gone.status, gone.details.name) == ("Status", "Success", "one")
    with pytest.raises(NotFoundError) as missing:
        services.get(name="one", namespace="default")
    # The client takes the message from an answer whose type is exactly application/json.
    assert missing.value.summary() == 'services.serving.knative.dev "one" not found'
    details = {"name": "one", "kind": "services", "group": "serving.knative.dev"}
    assert json.loads(missing.value.body)["details"] == details


def test_dry_run_leaves_nothing(services: Any) -> None:
    apply(services, ksvc("dry"), dry_run="All")
    with pytest.raises(NotFoundError):
        services.get(name="dry", namespace="default")


def test_admission_refuses(services: Any) -> None:
    with pytest.raises(BadRequestError, match="denied the request: no"):
        apply(services, ksvc("bad", image="refused"))
    with pytest.raises(UnprocessibleEntityError, match="a lowercase RFC 1123 subdomain must"):
        apply(services, ksvc("Bad_Name"))


def test_two_managers_conflict(services: Any) -> None:
    apply(services, ksvc("ours", target="2"))
    with pytest.raises(ConflictError) as refused:
        apply(services, ksvc("ours", target="9"), field_manager="other")
    assert 'conflict with \\"qwenkit\\": .spec.template.metadata.annotations.target' in str(
        refused.value.body
    )
    forced = apply(services, ksvc("ours", target="9"), field_manager="other", force_conflicts=True)
    assert forced.spec.template.metadata.annotations.target == "9"


def test_create_replace_patch_and_watch(dynamic: DynamicClient) -> None:
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    start = maps.get(namespace="default").metadata.resourceVersion
    seen: list[tuple[str, dict[str, str]]] = []

    def follow() -> None:
        for event in maps.watch(namespace="default", resource_version=start, timeout=60):
            seen.append((event["type"], dict(event["raw_object"]["data"])))
            if event["type"] == "DELETED":
                return

    watcher = threading.Thread(target=follow)
    watcher.start()
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "m"},
        "data": {"a": "1"},
    }
    made = maps.create(body=body, namespace="default").to_dict()
    maps.replace(body={**made, "data": {"a": "2"}}, namespace="default")
    with pytest.raises(ConflictError, match="the object has been modified"):
        maps.replace(body={**made, "data": {"a": "3"}}, namespace="default")
    maps.patch(
        body={"metadata": {"name": "m"}, "data": {"b": "1", "a": None}},
        namespace="default",
        content_type="application/merge-patch+json",
    )
    maps.delete(name="m", namespace="default")
    watcher.join(timeout=60)
    assert seen == [
        ("ADDED", {"a": "1"}),
        ("MODIFIED", {"a": "2"}),
        ("MODIFIED", {"b": "1"}),
        ("DELETED", {"b": "1"}),
    ]


def test_secret_text_is_encoded_and_rights_are_reviewed(dynamic: DynamicClient) -> None:
    secrets = dynamic.resources.get(api_version="v1", kind="Secret")
    body = {"metadata": {"name": "keys"}, "stringData": {"akId": "id"}}
    secrets.create(body=body, namespace="default")
    assert secrets.get(name="keys", namespace="default").data.akId == "aWQ="
    reviews = dynamic.resources.get(
        api_version="authorization.k8s.io/v1", kind="SelfSubjectAccessReview"
    )
    wanted = {"spec": {"resourceAttributes": {"verb": "list", "resource": "nodes"}}}
    assert reviews.create(body=wanted).status.allowed


def test_the_kubeconfig_is_private(cluster: Cluster) -> None:
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600
