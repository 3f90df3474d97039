"""The documents of a participant: what they allow, what they share, and what they keep."""

from __future__ import annotations

import pytest

from qwenkit import Settings
from qwenkit.credentials import Credentials
from qwenkit.errors import InvalidValue, NotFound
from qwenkit.settings import EXPIRES_AT, MANAGED_BY, RUN_LABEL
from qwenkit.workshop import objects
from qwenkit.workshop.bill import Forecast, bill_of
from qwenkit.workshop.description import Description
from qwenkit.workshop.names import WORKSHOP_LABEL, WorkshopName
from qwenkit.workshop.slots.state import Slots

NAME = WorkshopName("ws")
SETTINGS = Settings(bucket="weights", oss_endpoint="https://oss.example", max_scale=2)
WORKSHOP = Description(
    NAME,
    (NAME.participant(1, "李明"), NAME.participant(2)),
    3,
    "2030-01-02T03:04:05Z",
    objects.shared_parameters(SETTINGS),
    "http://gateway.example",
)


def of(number: int, settings: Settings = SETTINGS) -> dict[tuple[str, str], dict]:
    who = WORKSHOP.participants[number - 1]
    docs = objects.participant_objects(WORKSHOP, settings, who, shared=objects.Shared())
    return {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}


def test_every_object_says_whose_it_is_and_when_it_ends() -> None:
    own = objects.own_objects(WORKSHOP, SETTINGS, None, [])
    for doc in [*of(1).values(), *own]:
        meta = doc["metadata"]
        assert meta["labels"][RUN_LABEL] == "workshop-ws"
        assert meta["labels"][WORKSHOP_LABEL] == "ws"
        assert meta["annotations"][EXPIRES_AT] == WORKSHOP.expires_at
        manager = "qwenkit-admin" if "PersistentVolume" in doc["kind"] else "qwenkit"
        assert meta["labels"][MANAGED_BY] == manager


def test_a_role_is_of_one_namespace_and_has_no_dangerous_right() -> None:
    found = of(1)
    assert {kind for kind, _ in found}.isdisjoint({"ClusterRole", "ClusterRoleBinding"})
    rules = found["Role", "participant"]["rules"]
    everything = {
        (resource, verb)
        for rule in rules
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert not {res for res, _ in everything} & {
        *("pods/exec", "serviceaccounts/token", "serviceaccounts", "roles", "rolebindings"),
        *("persistentvolumes", "limitranges", "networkpolicies", "*"),
    }
    assert {verb for res, verb in everything if res == "resourcequotas"} == {"get"}
    assert {verb for res, verb in everything if res == "jobs"} == {"list"}
    assert {verb for res, verb in everything if res == "persistentvolumeclaims"} == {"get", "list"}
    named = [rule for rule in rules if rule["resources"][0] in ("secrets", "configmaps")]
    assert named
    assert all(rule["resourceNames"] for rule in named)
    assert {verb for res, verb in everything if res == "secrets"} == {"get"}


def test_the_bucket_is_shared_and_its_key_is_not() -> None:
    first, second = (of(n)["PersistentVolume", f"ws-p0{n}"]["spec"] for n in (1, 2))
    assert first["csi"]["volumeHandle"] != second["csi"]["volumeHandle"]
    assert first["csi"]["volumeAttributes"] == second["csi"]["volumeAttributes"]
    assert first["accessModes"] == ["ReadOnlyMany"]
    assert first["claimRef"]["namespace"] == "ws-p01"
    reference = first["csi"]["nodePublishSecretRef"]
    assert reference == {"name": "weights-oss", "namespace": "qwenkit-ws"}
    assert [name for kind, name in of(1) if kind == "Secret"] == ["qwen-api-key"]
    keys = Credentials(access_key_id="id", access_key_secret="secret")
    own = objects.own_objects(WORKSHOP, SETTINGS, keys, [])
    (secret,) = (doc["metadata"] for doc in own if doc["kind"] == "Secret")
    assert (secret["namespace"], secret["name"]) == ("qwenkit-ws", "weights-oss")


def test_with_a_role_there_is_no_key_at_all() -> None:
    rrsa = SETTINGS.model_copy(update={"oss_auth": "rrsa", "rrsa_role": "reader"})
    assert "nodePublishSecretRef" not in of(1, rrsa)["PersistentVolume", "ws-p01"]["spec"]["csi"]


def test_api_keys_are_each_participants_own() -> None:
    first, second = (of(n)["Secret", "qwen-api-key"]["data"]["api-key"] for n in (1, 2))
    assert first != second
    assert len(first) > 40


def test_no_gpu_before_a_slot() -> None:
    mig = SETTINGS.model_copy(update={"gpu_resource": "nvidia.com/mig-3g.40gb"})
    assert of(1)["ResourceQuota", "workshop"]["spec"]["hard"]["requests.nvidia.com/gpu"] == "0"
    hard = of(1, mig)["ResourceQuota", "workshop"]["spec"]["hard"]
    assert hard["requests.nvidia.com/mig-3g.40gb"] == "0"
    assert hard["requests.cpu"] == "41"  # five servers, and what stands beside them


def test_a_servers_container_is_within_the_limits() -> None:
    (limit,) = of(1)["LimitRange", "workshop"]["spec"]["limits"]
    assert limit["max"] == {"cpu": "32", "memory": "64Gi"}
    small = SETTINGS.model_copy(update={"cpu_limit": "500m", "memory_limit": "128Mi"})
    (limit,) = of(1, small)["LimitRange", "workshop"]["spec"]["limits"]
    assert limit["max"] == limit["default"]


def test_a_participant_gets_the_server_of_the_instructor_and_no_key() -> None:
    found = WORKSHOP.parameters(WORKSHOP.participants[1])
    theirs = Settings(**found)
    assert (theirs.namespace, theirs.run, theirs.volume) == ("ws-p02", "p02", "ws-p02")
    assert (theirs.storage, theirs.workshop, theirs.max_scale) == ("shared", "ws", 2)
    assert not {name for name in found if name.startswith("oss") or name == "bucket"}


def test_a_description_is_read_as_it_was_written() -> None:
    assert Description.of(NAME, WORKSHOP.to_object()) == WORKSHOP
    for broken in ("", "{}", "[1]", '{"participants": []}'):
        with pytest.raises(InvalidValue):
            Description.of(NAME, {"data": {"workshop.json": broken}})


def test_a_participant_is_found_by_id_or_name() -> None:
    assert WORKSHOP.participant("p02") == WORKSHOP.participant("") == WORKSHOP.participants[1]
    assert WORKSHOP.participant("李明").id == "p01"
    with pytest.raises(NotFound, match="p99"):
        WORKSHOP.participant("p99")


def test_an_image_is_pulled_on_gpu_nodes_alone() -> None:
    def node(name: str, gpus: str) -> dict:
        meta = {"name": name, "labels": {"kubernetes.io/hostname": name}}
        return {"metadata": meta, "status": {"allocatable": {"nvidia.com/gpu": gpus}}}

    made = objects.own_objects(WORKSHOP, SETTINGS, None, [node("a.b", "2"), node("cpu", "0")])
    (job,) = (doc for doc in made if doc["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["name"] == "pull-a-b"
    assert pod["nodeSelector"] == {"kubernetes.io/hostname": "a.b"}
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]


def test_a_private_image_is_pulled_with_the_registry_s_login() -> None:
    private = SETTINGS.model_copy(update={"image_pull_secret": "login", "transfer_image": "own"})
    meta = {"name": "login", "namespace": "default", "uid": "u", "resourceVersion": "7"}
    login = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "t", "data": {}}
    own = objects.own_objects(WORKSHOP, private, None, [], login=login, clean_up=True)
    shared = objects.Shared(login=login)
    theirs = objects.participant_objects(WORKSHOP, private, WORKSHOP.participants[0], shared=shared)
    copies = [
        doc["metadata"]
        for doc in [*own, *theirs]
        if (doc["kind"], doc["metadata"]["name"]) == ("Secret", "login")
    ]
    assert [copy["namespace"] for copy in copies] == ["qwenkit-ws", "ws-p01"]
    assert not any("uid" in copy or "resourceVersion" in copy for copy in copies)
    accounts = [doc for doc in own if doc["kind"] == "ServiceAccount"]
    assert [one["imagePullSecrets"] for one in accounts] == [[{"name": "login"}]] * 2


def test_pods_of_participants_do_not_reach_the_node_s_metadata() -> None:
    policy = of(1)["NetworkPolicy", "workshop"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = policy["egress"]
    assert "100.100.100.200/32" in rule["to"][0]["ipBlock"]["except"]


def test_costs_before_and_after() -> None:
    ahead = Forecast("A10", 9, 8.0, 10.0, 30)
    assert ahead.most == 720
    assert "144 GPU minutes for each" in str(ahead)
    slots = Slots(3, settled={"p01": 1800.0})
    found = bill_of(WORKSHOP, slots, 10.0)
    assert [line.cost for line in found.lines] == [5.0, 0.0]
    assert (found.gpu_seconds, found.cost) == (1800.0, 5.0)
    assert bill_of(WORKSHOP, slots, None).cost is None
