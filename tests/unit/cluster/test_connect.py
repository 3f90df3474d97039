"""Real kubeconfigs: several files, broken ones, with plugins, proxies and authorities."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_api import Api, serving

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.connect import api_client
from qwenkit.errors import Forbidden, InvalidValue, NotFound, QwenkitError, Unreachable
from qwenkit.sandbox.kube.tls import make_certificates
from qwenkit.settings import Settings

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
TOKEN = "kube-token-to-keep-secret"


def kubeconfig(path: Path, server: str = "http://127.0.0.1:9", **more: Any) -> Path:
    """Write a kubeconfig of one context, named like the file; ``more`` replaces its parts."""
    name = path.stem
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": TOKEN}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    path.write_text(json.dumps(config | more), "utf-8")
    return path


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets KUBECONFIG to some files."""
    return lambda *paths: monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, paths)))


@contextmanager
def host_of(context: str) -> Iterator[str]:
    client = api_client(context)
    yield str(client.configuration.host)
    client.close()


def test_several_files_are_merged_and_the_first_wins(tmp_path: Path, use: Any) -> None:
    first = kubeconfig(tmp_path / "first", "http://127.0.0.1:1")
    second = kubeconfig(tmp_path / "second", "http://127.0.0.1:2")
    other = tmp_path / "folder"
    other.mkdir()
    again = kubeconfig(other / "first", "http://127.0.0.1:3")
    use(tmp_path / "not-there", first, second, again)
    for context, server in (("first", "http://127.0.0.1:1"), ("second", "http://127.0.0.1:2")):
        with host_of(context) as host:
            assert host == server
    with pytest.raises(NotFound) as caught:
        api_client("third")
    assert caught.value.why.endswith("first, second")


def test_relative_files_belong_to_their_kubeconfig(tmp_path: Path, use: Any) -> None:
    (tmp_path / "token").write_text(TOKEN)
    user = {"name": "here", "user": {"tokenFile": "token"}}
    use(kubeconfig(tmp_path / "here", users=[user]), kubeconfig(tmp_path / "there"))
    client = api_client("here")
    assert TOKEN in str(client.configuration.api_key)
    client.close()


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        ({"clusters": [{"name": "bad", "cluster": {}}]}, "server"),
        ({"clusters": [{"name": "bad", "cluster": {"server": "127.0.0.1:6443"}}]}, "server"),
        ({"clusters": []}, "bad"),
        ({"clusters": {"a": 1}}, "bad"),
        ({"contexts": [{"name": "bad"}]}, "context"),
        ({"users": [{"name": "bad", "usr": {"token": TOKEN}}]}, "user"),
    ],
)
def test_a_broken_entry_is_named_and_shows_no_token(
    tmp_path: Path, use: Any, broken: dict[str, Any], text: str
) -> None:
    use(kubeconfig(tmp_path / "bad", **broken))
    with pytest.raises(InvalidValue, match="KUBECONFIG") as caught:
        api_client("bad")
    assert text in caught.value.why
    assert TOKEN not in str(caught.value) + str(caught.value.to_dict())


def plugin(tmp_path: Path, code: str) -> dict[str, Any]:
    script = tmp_path / "plugin.py"
    script.write_text(code)
    run = {"command": sys.executable, "args": [str(script)]}
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", **run}}


def test_a_credential_plugin_that_works_is_used(tmp_path: Path, use: Any) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": TOKEN},
    }
    user = plugin(tmp_path, f"print({json.dumps(answer)!r})")
    use(kubeconfig(tmp_path / "cloud", users=[{"name": "cloud", "user": user}]))
    client = api_client("cloud")
    assert TOKEN in str(client.configuration.api_key)
    client.close()


def test_a_credential_plugin_that_fails_is_an_error(tmp_path: Path, use: Any) -> None:
    user = plugin(tmp_path, "raise SystemExit(3)")
    use(kubeconfig(tmp_path / "cloud", users=[{"name": "cloud", "user": user}]))
    with pytest.raises(Forbidden, match="credential plugin") as caught:
        api_client("cloud")
    assert sys.executable in caught.value.why
    assert "--context cloud" in caught.value.fix


def test_a_proxy_is_not_used_for_loopback(
    tmp_path: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    far = kubeconfig(tmp_path / "far", "https://203.0.113.7:6443")
    near = kubeconfig(tmp_path / "near", "https://localhost:6443")
    tunnel = {"server": "https://127.0.0.1:6443", "proxy-url": "http://127.0.0.1:1080"}
    through = kubeconfig(tmp_path / "tunnel", clusters=[{"name": "tunnel", "cluster": tunnel}])
    use(far, near, through)
    proxies = {}
    for context in ("far", "near", "tunnel"):
        client = api_client(context)
        proxies[context] = client.configuration.proxy
        client.close()
    assert proxies == {
        "far": "http://127.0.0.1:9",
        "near": None,
        "tunnel": "http://127.0.0.1:1080",
    }


def test_the_in_cluster_context_needs_a_service_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NotFound, match="service account"):
        api_client("in-cluster")


@pytest.mark.parametrize("context", ["sandbox", "kind-course"])
def test_an_unreachable_server_has_a_fix_for_its_target(
    tmp_path: Path, use: Any, context: str
) -> None:
    with serving(Api().app()) as gone:
        use(kubeconfig(tmp_path / context, gone))
    with pytest.raises(Unreachable, match="no answer") as caught:
        Cluster.connect(Settings(context=context), first_answer_s=0)
    assert ("qwenkit sandbox up" in caught.value.fix) is (context == "sandbox")


def test_an_untrusted_authority_is_reported(tmp_path: Path, use: Any) -> None:
    made, other = make_certificates(), make_certificates()
    (tmp_path / "other").write_text(other.ca_pem)
    with serving(Api().app(), made.ssl_context) as url:
        cluster = {"server": url, "certificate-authority": str(tmp_path / "other")}
        use(kubeconfig(tmp_path / "mine", clusters=[{"name": "mine", "cluster": cluster}]))
        with pytest.raises(Unreachable, match="no trusted connection") as caught:
            Cluster.connect(Settings(context="mine"))
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.why
    assert "certificate-authority-data" in caught.value.fix


def test_every_content_of_a_file_raises_our_error(tmp_path: Path, use: Any) -> None:
    for n, text in enumerate(("", "null", "[]", "a: &a [*a]", "contexts: 3", "\x00", "- 1")):
        path = tmp_path / f"c{n}"
        path.write_text(text)
        use(path)
        with pytest.raises(QwenkitError):
            api_client("mine")
