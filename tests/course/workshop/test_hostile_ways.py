"""A hostile participant's other ways: gateway, bucket, kubectl, the queue, the board."""

from __future__ import annotations

import json
import os
import subprocess
from html.parser import HTMLParser
from typing import Any

import pytest
import requests
from hostile_tries import CORE, HOME, KNATIVE, LEASES, MERGE, P01, P02, service, within
from hostile_world import World, sent
from oss_world import client as oss_client

from qwenkit.cluster.gpu_slot import GPUS
from qwenkit.sandbox import process, state_files
from qwenkit.workshop.board import Board
from qwenkit.workshop.board_reader import BoardReader

# At the gateway: the host of the other participant's server, with any key but theirs.
_ASK = {"model": "qwen", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
GATEWAY = {
    "no key": {},
    "one's own key": {"Authorization": "Bearer {p01}"},
    "an empty key": {"Authorization": "Bearer "},
    "a key of blanks": {"Authorization": "Bearer    "},
    "another scheme": {"Authorization": "Basic {p01}"},
    "no scheme": {"Authorization": "{p01}"},
    "the API server's token": {"Authorization": "Bearer {token}"},
    "another header": {"X-Api-Key": "{p01}"},
    "a cookie": {"Cookie": "Authorization=Bearer {p01}"},
    "a forwarded host": {"Authorization": "Bearer {p01}", "X-Forwarded-Host": "{own}"},
    "a tag": {"Authorization": "Bearer {p01}", "Knative-Serving-Tag": "candidate"},
    "the proxy's headers": {"K-Network-Probe": "queue", "Knative-Serving-Revision": "qwen-00001"},
}
HOSTS = ["{host}", "{host}:80", "{upper}", "{host}."]
UNKNOWN = ["qwen.{p}.svc.cluster.local", "qwen.{p}.svc", "qwen.{p}", "qwen-00001.{p}.example.com"]


def _asked(world: World, host: str, headers: dict[str, str], path: str) -> requests.Response:
    own = world.host.replace(P02, P01)
    words = world.keys | {"token": world.tokens["p01"], "own": own}
    filled = {name: value.format(**words) for name, value in headers.items()}
    return sent("POST", world.gateway + path, json=_ASK, headers=filled | {"Host": host})


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/models"])
@pytest.mark.parametrize("how", GATEWAY)
def test_anothers_server_wants_its_key(world: World, how: str, path: str) -> None:
    answer = _asked(world, world.host, GATEWAY[how], path)
    assert (answer.status_code, "choices" in answer.text) in ((401, False), (400, False))


@pytest.mark.parametrize("host", HOSTS)
def test_another_spelling_of_its_host_is_no_way_round(world: World, host: str) -> None:
    host = host.format(host=world.host, upper=world.host.upper())
    answer = _asked(world, host, GATEWAY["one's own key"], "/v1/chat/completions")
    assert answer.status_code in (401, 404)
    good = _asked(world, world.host, {"Authorization": "Bearer {p02}"}, "/v1/chat/completions")
    assert good.status_code == 200, good.text


@pytest.mark.parametrize("host", UNKNOWN)
def test_hosts_inside_the_cluster_are_not_reached(world: World, host: str) -> None:
    answer = _asked(world, host.format(p=P02), {"Authorization": "Bearer {p02}"}, "/v1/models")
    assert answer.status_code == 404


# At the bucket: a participant has no key of it, so there is nothing but to ask without.
OBJECT, OTHER = "Qwen-7B-Chat-Int8/config.json", "another-prefix/secret.txt"
_SIGNED = "?OSSAccessKeyId={key}&Expires=4102444800&Signature=aGVsbG8%3D"
BUCKET = [
    *((method, OBJECT, "") for method in ("GET", "HEAD", "PUT", "DELETE")),
    *((method, OTHER, "") for method in ("GET", "HEAD", "PUT", "DELETE")),
    *(("GET", "", query) for query in ("", "?list-type=2", "?uploads", "?acl", "?bucketInfo")),
    *(("POST", OBJECT, query) for query in ("?uploads", "?append&position=0")),
    ("POST", "", "?delete"),
    *(("GET", name, _SIGNED) for name in (OBJECT, OTHER, "")),
    ("PUT", OBJECT, _SIGNED),
]


@pytest.mark.parametrize(("method", "name", "query"), BUCKET)
def test_the_bucket_wants_a_key(world: World, method: str, name: str, query: str) -> None:
    state = state_files.running(world.root)
    host = state.oss.replace("//", f"//{state_files.BUCKET}.")
    place = f"{state.oss}/{name}{query.format(key=world.keys['p01'])}"
    answer = sent(method, place, headers={"Host": host.partition("//")[2]}, data=b"mine")
    assert answer.status_code == 403
    assert b"architectures" not in answer.content


def test_with_the_instructors_key_the_bucket_answers(world: World) -> None:
    keys = process.environment(world.root)
    with oss_client(
        state_files.running(world.root).oss,
        auth="V4",
        key_id=keys["OSS_ACCESS_KEY_ID"],
        secret=keys["OSS_ACCESS_KEY_SECRET"],
        bucket_name=state_files.BUCKET,
    ) as bucket:
        assert b"architectures" in bucket.get_object(OBJECT).read()


def test_no_secret_of_the_bucket_is_in_what_a_participant_gets(world: World) -> None:
    secret = process.environment(world.root)["OSS_ACCESS_KEY_SECRET"]
    kinds = ("configmaps/workshop", "configmaps/weights", "secrets/qwen-api-key")
    for path in [*(within(CORE, P01, kind) for kind in kinds), within(KNATIVE, P01, "services")]:
        assert secret not in world.send("p01", "GET", path).text


KUBECTL = [
    "get secrets",
    "get secrets -A",
    f"get secret qwen-api-key -n {P02} -o yaml",
    "get pods -A --watch",
    "get nodes",
    "get pv",
    "get all -n kube-system",
    f"describe ksvc qwen -n {P02}",
    f"delete ksvc qwen -n {P02}",
    f"delete namespace {P02}",
    "create token participant",
    f"create token participant -n {P02}",
    "create clusterrolebinding mine --clusterrole=cluster-admin --user=me",
    "create rolebinding mine --clusterrole=admin --user=me",
    "create quota mine --hard=pods=99",
    "run shell --image=busybox -- sh",
    "get pods --as=admin",
    "get pods --as=me --as-group=system:masters",
    f"get pods --as=system:serviceaccount:{HOME}:keeper -n {HOME}",
    "get --raw /metrics",
    "cordon gpu-node-1",
    f"annotate namespace {P01} a=b",
    f"scale deployment qwen-00001-deployment --replicas=0 -n {P02}",
]


@pytest.mark.parametrize("command", KUBECTL)
def test_kubectl_is_refused(world: World, command: str) -> None:
    config = world.root.with_name("p01.kubeconfig")
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={config}", f"--cache-dir={world.root}.cache", *command.split()],
        env={"PATH": os.environ["PATH"], "HOME": str(config.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "orbidden" in done.stderr, done.stderr


# In the queue: a wish is only a wish, whatever it says.
LONG = 2**31 - 1
WISHES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "all GPUs": ({GPUS: "999"}, {}),
    "GPUs without end": ({GPUS: "9" * 60}, {}),
    "less than nothing": ({GPUS: "-5"}, {}),
    "no number": ({GPUS: "NaN"}, {}),
    "another notation": ({GPUS: "1e3"}, {}),
    "digits of another script": ({GPUS: "٣"}, {}),
    "nothing": ({GPUS: ""}, {}),
    "a page's words": ({GPUS: "<script>alert(1)</script>"}, {}),
    "a slot for life": ({}, {"leaseDurationSeconds": LONG}),
    "no time named": ({}, {"leaseDurationSeconds": None}),
    "another's name": ({}, {"holderIdentity": "p02"}),
    "the keeper's name": ({}, {"holderIdentity": "keeper"}),
    "an early beginning": ({}, {"acquireTime": "2001-01-01T00:00:00.000000Z"}),
    "an early renewal": ({}, {"renewTime": "2001-01-01T00:00:00.000000Z"}),
    "a grant of one's own": ({"qwenkit.dev/granted": "true", "qwenkit.dev/until": "9e9"}, {}),
}


def lease(name: str, notes: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    meta = {
        "name": name,
        "labels": {"qwenkit.dev/workshop": "ws", "qwenkit.dev/participant": "p02"},
        "annotations": {GPUS: "1"} | notes,
        "creationTimestamp": "2001-01-01T00:00:00Z",  # the server's own counts
    }
    kept = {key: value for key, value in ({"leaseDurationSeconds": 600} | spec).items() if value}
    return {"metadata": meta, "spec": kept}


@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_takes_nobodys_slot(world: World, wish: str) -> None:
    path = within(LEASES, P01, "leases")
    made = world.send("p01", "POST", path, json=lease("gpu-slot", *WISHES[wish]))
    assert made.status_code == 201, made.text
    world.keeper.turn()
    slots = world.room.read()
    assert slots.grants.keys() == {"p02"}
    quota = world.send("admin", "GET", within(CORE, P01, "resourcequotas/workshop")).json()
    assert quota["spec"]["hard"]["requests.nvidia.com/gpu"] == "0"
    told = world.send("p01", "GET", within(CORE, P01, "configmaps/workshop")).json()["data"]
    assert json.loads(told["slot"])["slot"] in ("waiting", "none")
    assert world.send("p01", "DELETE", f"{path}/gpu-slot").status_code == 200


def test_a_second_wish_of_the_same_participant_is_none(world: World) -> None:
    path = within(LEASES, P01, "leases")
    for name in ("gpu-slot", "gpu-slot-2", "keeper"):
        assert world.send("p01", "POST", path, json=lease(name, {}, {})).status_code == 201
    world.keeper.turn()
    asks, _ = zip(*world.room.look().asks.values(), strict=True)
    assert sorted(ask.participant for ask in asks) == ["p01", "p02"]
    for name in ("gpu-slot", "gpu-slot-2", "keeper"):
        world.send("admin", "DELETE", f"{path}/{name}")


# On the board: what a participant writes is shown to the instructor.
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
RECORDS = [
    SCRIPT,
    json.dumps({"chapter": SCRIPT, "passed": {SCRIPT: SCRIPT}}),
    json.dumps({"chapter": "05", "passed": {"05.1": SCRIPT, "99.9": "2026"}}),
    json.dumps({"chapter": "\x1b[2J\x1b]0;owned\x07", "passed": ["05.1"]}),
    json.dumps({"chapter": "\u202eevil", "passed": 10**9}),
    json.dumps({"chapter": ["05"], "passed": {"05.1": {"a": {}}}}),
    json.dumps([1, 2, 3]),
    "{" * 9000,
    "[" * 15000 + "]" * 15000,
    "9" * 19000,
    "x" * 900_000,
    "NaN",
    "",
]
_TAGS = {"div", "p", "table", "thead", "tbody", "tr", "th", "td", "span", "br"}


class Reader(HTMLParser):
    """Collects what a browser would make of the board."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def is_harmless(board: Board) -> bool:
    page, text = Reader(board.html()), str(board)
    odd = {letter for letter in text if not (letter.isprintable() or letter == "\n")}
    return page.tags <= _TAGS and page.attributes <= {"style", "class"} and not odd


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: ascii(record[:24]))
def test_the_board_shows_what_participants_write_harmlessly(world: World, record: str) -> None:
    path, how = within(CORE, P01, "configmaps/progress"), {"Content-Type": MERGE}
    body = json.dumps({"data": {"record": record}})
    assert world.send("p01", "PATCH", path, data=body, headers=how).status_code == 200
    board = BoardReader(world.room.cluster, world.room.name).read()
    assert is_harmless(board)
    assert "<b>Ann</b>" in str(board)
    assert "<b>Ann</b>" not in board.html()
    assert [row.id for row in board.rows] == ["p01", "p02"]
    assert board.rows[0].progress.passed <= 1


@pytest.mark.parametrize("image", ["localhost/x:<script>", "UPPER/$(reboot)", "a\x1b[31mb", SCRIPT])
def test_the_board_shows_a_servers_error_harmlessly(world: World, image: str) -> None:
    path = within(KNATIVE, P01, "services")
    body = service(container={"image": image})
    body["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "qwenkit"}
    world.send("p01", "POST", path, json=body)
    try:
        for _ in range(2):
            assert is_harmless(BoardReader(world.room.cluster, world.room.name).read())
    finally:
        world.send("p01", "DELETE", f"{path}/hostile")
