"""What an administrator makes, and how a deployment with a smaller role lives with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cluster_api import OURS, Api, status

from qwenkit import steps
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.deploy import apply_all, wait_bound
from qwenkit.cluster.gateway import gateway_url
from qwenkit.errors import Conflict, Forbidden, WaitTimeout
from qwenkit.manifests.render import render
from qwenkit.manifests.storage import of_admin
from qwenkit.settings import Settings

SETTINGS = Settings(bucket="models", oss_endpoint="oss.example.com")


def plain(document: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document))
    return found


def admins(api: Api, **settings: Any) -> None:
    """Store what an administrator applied."""
    for document in of_admin(SETTINGS.model_copy(update=settings)):
        api.add(plain(document))


def forbid(api: Api, *methods: str) -> None:
    """Refuse these methods on PVs, as RBAC does."""

    def answer(method: str, path: str, _body: Any) -> tuple[int, dict[str, Any]] | None:
        if method not in methods or "/persistentvolumes" not in path:
            return None
        verb = {"GET": "get", "PATCH": "patch"}[method]
        what = f'cannot {verb} resource "persistentvolumes" in API group "" at the cluster scope'
        return status(403, "Forbidden", f'persistentvolumes is forbidden: User "me" {what}')

    api.refuse = answer


def applied(cluster: Cluster) -> list[str]:
    return [one.kind for one in apply_all(cluster, map(plain, render(SETTINGS)[:-1]))]


def test_what_the_administrator_made_is_left_as_it_is(cluster: Cluster, api: Api) -> None:
    admins(api, oss_endpoint="oss-internal.example.com")
    before = dict(api.objects)
    assert applied(cluster) == ["Secret"]
    assert {key: api.objects[key] for key in before} == before


def test_a_volume_of_the_administrator_for_another_bucket_is_refused(
    cluster: Cluster, api: Api
) -> None:
    admins(api, bucket="others")
    with pytest.raises(Conflict) as caught:
        applied(cluster)
    assert "csi.volumeAttributes.bucket is 'others'" in caught.value.why
    assert "csi.volumeAttributes.bucket 'models'" in caught.value.fix
    assert "Secret" not in {key[0].rpartition("/")[2] for key in api.objects}, "nothing was changed"


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/managed-by": "qwenkit-admin"}])
def test_a_volume_made_by_hand_for_this_claim_is_used(
    cluster: Cluster, api: Api, labels: dict[str, str]
) -> None:
    admins(api)
    api.objects["v1/PersistentVolume", "", "llm-model"]["metadata"]["labels"] = labels
    del api.objects["v1/PersistentVolumeClaim", "default", "llm-model"]
    assert applied(cluster) == ["Secret", "PersistentVolumeClaim"]


def test_a_role_that_sees_no_volumes_leaves_them_to_the_administrator(
    cluster: Cluster, api: Api
) -> None:
    forbid(api, "GET", "PATCH")
    assert applied(cluster) == ["Secret", "PersistentVolumeClaim"]
    with pytest.raises(WaitTimeout) as caught:
        wait_bound(cluster, "llm-model", timeout_s=0.1)
    assert "may not look at its PV llm-model" in caught.value.why
    assert "qwenkit render --admin | kubectl apply -f -" in caught.value.fix


def test_a_volume_that_is_missing_and_may_not_be_made_is_asked_for(
    cluster: Cluster, api: Api
) -> None:
    forbid(api, "PATCH")
    with pytest.raises(Forbidden) as caught:
        applied(cluster)
    assert caught.value.fix.endswith("qwenkit render --admin | kubectl apply -f -")
    api.add(plain(render(SETTINGS)[1]) | {"metadata": {"name": "llm-model", "labels": OURS}})
    assert "PersistentVolume" not in applied(cluster), "it is there, whoever made it"


def test_a_refusal_names_verb_resource_and_scope(cluster: Cluster, api: Api) -> None:
    forbid(api, "GET")
    with pytest.raises(Forbidden) as caught:
        cluster.get("pv", "llm-model")
    role = "ask an administrator for a role that may get persistentvolumes at cluster scope"
    assert caught.value.fix == role
    api.refuse = lambda _method, path, _body: (
        status(403, "Forbidden", "no") if "/services/" in path else None
    )
    with pytest.raises(Forbidden, match="may not look") as unseen:
        gateway_url(cluster)
    assert "--set gateway=URL" in unseen.value.fix


@pytest.mark.parametrize(
    ("storage", "kinds"),
    [
        ("oss", ["PersistentVolume", "PersistentVolumeClaim", "Role", "RoleBinding"]),
        ("nas", ["PersistentVolume", "Role", "RoleBinding"]),
        ("pvc", ["Role", "RoleBinding"]),
    ],
)
def test_the_administrator_gets_the_volume_and_the_role(storage: str, kinds: list[str]) -> None:
    settings = Settings(storage=storage, namespace="team", nas_server="nas.example.com")
    documents, enable = steps.for_admin(settings, "system:serviceaccount:ci:bot")
    assert [document["kind"] for document in documents] == kinds
    labels = [document["metadata"].get("labels") or {} for document in documents]
    assert not any("qwenkit.dev/run" in one for one in labels)
    assert "kubernetes.podspec-persistent-volume-claim" in enable
    subject = {"kind": "ServiceAccount", "name": "bot", "namespace": "ci"}
    assert documents[-1]["subjects"] == [subject]
    rules = {tuple(rule["resources"]): rule["verbs"] for rule in documents[-2]["rules"]}
    assert "create" in rules["services",]
    assert ("persistentvolumes",) not in rules
    user = steps.for_admin(settings, "alice@example.com")[0][-1]
    assert user["subjects"][0]["kind"] == "User"
    assert user["metadata"] == {"name": "qwenkit:alice@example.com", "namespace": "team"}
