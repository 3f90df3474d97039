"""Who may do what: Roles and bindings, tokens of ServiceAccounts, impersonation, with kubectl."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kube_cluster import Cluster, running
from real_sandbox import limited_kubeconfig

LIMITED = "system:serviceaccount:default:limited"
RULES = [
    {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
    {"apiGroups": ["serving.knative.dev"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["own"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]},
    {"apiGroups": ["apps"], "resources": ["*/scale"], "verbs": ["get"]},
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("kube")) as cluster:
        cluster.on_loop(lambda store: store.create("Namespace", {"metadata": {"name": "other"}}))
        limited_kubeconfig(cluster.kubeconfig, RULES)
        yield cluster


def asked(cluster: Cluster, method: str, path: str, **how: Any) -> tuple[int, str]:
    """Ask as the ServiceAccount; return the status and the message, if it is refused."""
    config = cluster.folder.with_name(f"{cluster.folder.name}-default-limited.kubeconfig")
    token = json.loads(config.read_text())["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {token}", **how.pop("headers", {})}
    answer = cluster.http(method, path, headers=headers, **how)
    return answer.status_code, answer.json().get("message", "") if answer.status_code > 399 else ""


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("list pods", "yes"),
        ("get pods/log", "yes"),
        ("watch pods", "no"),
        ("list pods -n other", "no"),
        ("list pods -A", "no"),
        ("create ksvc", "yes"),
        ("get secret/own", "yes"),
        ("get secret/others", "no"),
        ("list secrets", "no"),
        ("get deployments/x --subresource=scale", "yes"),
        ("get deployments", "no"),
        ("list nodes", "no"),
        ("get /apis/apps/v1", "yes"),
        ("get /metrics", "no"),
    ],
)
def test_can_i(cluster: Cluster, command: str, answer: str) -> None:
    done = cluster.kubectl("auth", "can-i", *command.split(), f"--as={LIMITED}")
    assert (done.stdout.strip(), done.returncode) == (answer, 0 if answer == "yes" else 1)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default/pods",
        "/apis/serving.knative.dev/v1/namespaces/default/services",
        "/api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Down",
        "/apis",
        "/openapi/v3",
        "/version",
        "/readyz",
    ],
)
def test_what_a_limited_user_reads(cluster: Cluster, path: str) -> None:
    assert asked(cluster, "GET", path) == (200, "")


DEFAULT, OTHER, CLUSTER = 'in the namespace "default"', 'in the namespace "other"', "at the cluster"


@pytest.mark.parametrize(
    ("asks", "subject", "cannot"),
    [
        ("/api/v1/namespaces/default/pods?watch=1", "pods", f'watch resource "pods" "" {DEFAULT}'),
        ("/api/v1/pods", "pods", f'list resource "pods" "" {CLUSTER} scope'),
        ("/api/v1/namespaces/other/pods/a", 'pods "a"', f'get resource "pods" "" {OTHER}'),
        ("/api/v1/namespaces/other", 'namespaces "other"', f'get resource "namespaces" "" {OTHER}'),
        ("/api/v1/nodes/x/proxy/a", 'nodes "x"', f'get resource "nodes/proxy" "" {CLUSTER} scope'),
        ("/apis/a.io/v1/namespaces/other/bs", "bs.a.io", f'list resource "bs" "a.io" {OTHER}'),
        ("/metrics", "", 'get path "/metrics"'),
    ],
)  # fmt: skip
def test_what_a_limited_user_may_not(
    cluster: Cluster, asks: str, subject: str, cannot: str
) -> None:
    status, message = asked(cluster, "GET", asks)
    words = message.replace("in API group ", "").replace(f'User "{LIMITED}" cannot ', "")
    assert status == 403
    assert words == (f"{subject} is forbidden: {cannot}" if subject else f"forbidden: {cannot}")


def test_an_apply_that_creates_needs_the_right_to_create(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/configmaps/applied?fieldManager=m"
    headers = {"Content-Type": "application/apply-patch+yaml"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}
    status, message = asked(cluster, "PATCH", path, headers=headers, json=body)
    assert (status, 'cannot create resource "configmaps"' in message) == (403, True)
    assert cluster.http("PATCH", path, headers=headers, json=body).status_code == 201
    assert asked(cluster, "PATCH", path, headers=headers, json=body)[0] == 200


def test_bindings_of_users_groups_and_cluster_roles(cluster: Cluster) -> None:
    cluster.said("create", "rolebinding", "editor", "--clusterrole=edit", "--user=ed")
    cluster.said("create", "clusterrolebinding", "viewers", "--clusterrole=view", "--group=crew")
    cluster.said("create", "clusterrolebinding", "lost", "--clusterrole=gone", "--user=eve")
    assert "created" in cluster.said("create", "configmap", "a", "--as=ed")
    refused = cluster.kubectl("create", "configmap", "a", "-n", "other", "--as=ed").stderr
    assert 'cannot create resource "configmaps" in API group "" in the namespace "other"' in refused
    crew = ("--as=vi", "--as-group=crew")
    assert cluster.said("get", "configmap", "a", "-o", "name", *crew) == "configmap/a\n"
    assert "cannot delete" in cluster.kubectl("delete", "configmap", "a", *crew).stderr
    refused = cluster.kubectl("get", "nodes", "--as=eve").stderr
    assert 'scope: RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found' in refused
    shown = cluster.said("get", "rolebindings,clusterrolebindings")
    assert "ClusterRole/edit" in shown
    assert "ClusterRole/view" in shown


def test_a_review_says_which_binding_allows_it(cluster: Cluster) -> None:
    wanted = {"verb": "list", "resource": "pods", "namespace": "default"}
    answer = cluster.http(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        headers={"Impersonate-User": LIMITED},
        json={"spec": {"resourceAttributes": wanted}},
    ).json()
    assert answer["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "limited/default" of Role "limited" to '
        'ServiceAccount "limited/default"',
    }
    rules = cluster.said("auth", "can-i", "--list", f"--as={LIMITED}")
    assert "pods/log" in rules
    assert "secrets" in rules
    assert LIMITED in cluster.said("auth", "whoami", f"--as={LIMITED}")


def test_only_who_may_impersonate_does(cluster: Cluster) -> None:
    status, message = asked(cluster, "GET", "/api", headers={"Impersonate-User": "root"})
    assert status == 403
    assert message == (
        f'users "root" is forbidden: User "{LIMITED}" cannot impersonate resource "users" in API '
        'group "" at the cluster scope'
    )


def test_a_token_ends_with_its_time_and_its_account(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.said("create", "serviceaccount", "short")
    given = cluster.said("create", "token", "short", "--duration=10m").strip()

    def status(token: str) -> int:
        return cluster.http("GET", "/api", headers={"Authorization": f"Bearer {token}"}).status_code

    assert status(given) == 200
    assert status(given[:-2] + "aa") == 401
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr("qwenkit.sandbox.kube.access.users.time.time", lambda: now + 601)
        assert status(given) == 401
    cluster.said("delete", "serviceaccount", "short")
    cluster.said("create", "serviceaccount", "short")
    assert status(given) == 401
    refused = cluster.kubectl("create", "token", "short", "--duration=1m").stderr
    assert "may not specify a duration less than 10 minutes" in refused


@pytest.mark.parametrize(
    ("kind", "more", "cause"),
    [
        ("Role", {"rules": [{"resources": ["pods"]}]}, "rules[0].verbs: Required value: verbs mus"),
        ("Role", {"rules": [{"verbs": ["get"], "nonResourceURLs": ["/a"]}]}, "namespaced rules ca"),
        ("RoleBinding", {"roleRef": {"kind": "Rolle", "name": "a"}}, 'Unsupported value: "Rolle"'),
        (
            "RoleBinding",
            {"roleRef": {"kind": "Role", "name": "a"}, "subjects": [{"kind": "Robot"}]},
            'subjects[0].kind: Unsupported value: "Robot"',
        ),
    ],
)
def test_refused_roles(cluster: Cluster, kind: str, more: dict[str, Any], cause: str) -> None:
    version = "rbac.authorization.k8s.io/v1"
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": "a:b"}, **more}
    refused = cluster.kubectl("create", "--validate=false", "-f", "-", stdin=json.dumps(body))
    assert cause in refused.stderr


def test_a_binding_keeps_its_role(cluster: Cluster) -> None:
    patch = json.dumps({"roleRef": {"name": "other"}})
    refused = cluster.kubectl("patch", "rolebinding", "limited", "--type=merge", "-p", patch)
    assert "cannot change roleRef" in refused.stderr
