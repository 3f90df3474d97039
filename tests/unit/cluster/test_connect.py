"""Real kubeconfigs: several files, broken ones, with plugins, proxies and authorities."""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cluster_api import Api, serving

from qwenkit.cluster.api import connect
from qwenkit.cluster.api.connect import connection
from qwenkit.cluster.api.retries import is_untrusted
from qwenkit.cluster.client import Cluster
from qwenkit.errors import (
    Forbidden,
    InvalidValue,
    NotFound,
    QwenkitError,
    SettingsError,
    Unreachable,
)
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
    with closing(connection(context)) as client:
        yield str(client._api.configuration.host)


def test_several_files_are_merged_and_the_first_wins(tmp_path: Path, use: Any) -> None:
    first = kubeconfig(tmp_path / "first", "http://127.0.0.1:1")
    second = kubeconfig(tmp_path / "second", "http://127.0.0.1:2")
    other = tmp_path / "folder"
    other.mkdir()
    again = kubeconfig(other / "first", "http://127.0.0.1:3")
    use(tmp_path / "not-there", first, second, again)
    for number, context in enumerate(("first", "second"), 1):
        with host_of(context) as host:
            assert host == f"http://127.0.0.1:{number}"
    with pytest.raises(NotFound) as caught:
        connection("third")
    assert caught.value.why.endswith("first, second")


def test_relative_files_belong_to_their_kubeconfig(tmp_path: Path, use: Any) -> None:
    (tmp_path / "token").write_text(TOKEN)
    user = {"name": "here", "user": {"tokenFile": "token"}}
    use(kubeconfig(tmp_path / "here", users=[user]), kubeconfig(tmp_path / "there"))
    with closing(connection("here")) as client:
        assert TOKEN in str(client._api.configuration.api_key)


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
        connection("bad")
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
    with closing(connection("cloud")) as client:
        assert TOKEN in str(client._api.configuration.api_key)


def test_a_credential_plugin_that_fails_is_an_error(
    tmp_path: Path, use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    user = plugin(tmp_path, f"raise SystemExit({TOKEN!r})")
    use(kubeconfig(tmp_path / "cloud", users=[{"name": "cloud", "user": user}]))
    with pytest.raises(Forbidden, match="credential plugin") as caught:
        connection("cloud")
    assert sys.executable in caught.value.why
    assert "--context cloud" in caught.value.fix
    assert not caplog.records


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
        client = connection(context)
        proxies[context] = client._api.configuration.proxy
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
        connection("in-cluster")


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
            connection("mine")


def sent(context: str) -> list[tuple[str, str]]:
    """The headers of a request in this context."""
    return SEEN.pop() if Cluster.connect(Settings(context=context)) else []


SEEN: list[list[tuple[str, str]]] = []


@pytest.fixture
def server() -> Iterator[str]:
    async def version(request: web.Request) -> web.Response:
        SEEN.append(list(request.headers.items()))
        return web.json_response({"major": "1"})

    app = web.Application()
    app.router.add_get("/version", version)
    with serving(app) as url:
        yield url


def user(**fields: Any) -> dict[str, Any]:
    return {"users": [{"name": "mine", "user": fields}]}


def test_impersonation_is_sent_as_client_go_does(tmp_path: Path, use: Any, server: str) -> None:
    extra = {"example.org/reason": ["a", "b"], "Ü": ["ü"]}
    acting = {"as": "jane", "as-uid": "7", "as-groups": ["dev", "ops"], "as-user-extra": extra}
    use(kubeconfig(tmp_path / "mine", server, **user(token=TOKEN, **acting)))
    headers = [(n, v) for n, v in sent("mine") if n.startswith("Impersonate")]
    assert headers == [
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-example.org%2Freason", "a"),
        ("Impersonate-Extra-example.org%2Freason", "b"),
        ("Impersonate-Extra-%C3%9C", "ü"),
    ]


def test_the_token_s_file_wins_and_is_read_again(
    tmp_path: Path, use: Any, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_READ_AGAIN_S", 0)
    (tmp_path / "token").write_text("first-token\n")
    use(kubeconfig(tmp_path / "mine", server, **user(token=TOKEN, tokenFile="token")))
    cluster = Cluster.connect(Settings(context="mine"))
    for expected, change in (
        ("first", "second-token"),
        ("second", ""),
        ("second", None),
        ("second", None),
    ):
        cluster.version()
        assert dict(SEEN.pop())["Authorization"] == f"Bearer {expected}-token"
        if change is None:
            (tmp_path / "token").unlink(missing_ok=True)
        else:
            (tmp_path / "token").write_text(change)
    use(kubeconfig(tmp_path / "mine", server, **user(token=TOKEN, tokenFile="absent")))
    assert ("Authorization", f"Bearer {TOKEN}") in sent("mine")


def test_paths_are_relative_to_the_file_that_has_them(tmp_path: Path, use: Any) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text(f"token-of-{folder}")
    first = kubeconfig(tmp_path / "a" / "mine", users=[])
    second = kubeconfig(tmp_path / "b" / "mine", **user(tokenFile="token"))
    use(first, second)
    assert connection("mine")._api.configuration.api_key["BearerToken"] == "Bearer token-of-b"


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"as-groups": ["g"]}, "without as"),
        ({"as": "a", "as-groups": "g"}, "as-groups a list"),
        ({"as": {"a": 1}}, "must be texts"),
        ({"as": "a\nb"}, "control characters"),
        ({"as": "a", "as-user-extra": ["x"]}, "as-user-extra"),
        ({"token": TOKEN, "username": "u", "password": TOKEN}, "keep one"),
        ({"auth-provider": {"name": "oidc", "config": {"id-token": TOKEN}}}, "auth-provider"),
        ({"exec": {"command": "x", "apiVersion": "client.authentication.k8s.io/v1alpha1"}}, "v1"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, "command"),
        ({"client-certificate-data": "eA=="}, "client-key"),
        ({"tokenFile": "absent"}, "tokenFile"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(
    tmp_path: Path, use: Any, fields: dict[str, Any], rule: str
) -> None:
    use(kubeconfig(tmp_path / "mine", **user(**fields)))
    with pytest.raises(InvalidValue, match="KUBECONFIG") as caught:
        connection("mine")
    assert rule in caught.value.why
    assert TOKEN not in str(caught.value) + str(caught.value.to_dict())


@pytest.mark.filterwarnings("ignore:SOCKS support")
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://x", "://", "http://[x"])
def test_a_proxy_that_cannot_be_used_is_a_typed_error(
    tmp_path: Path, use: Any, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for more in ({"proxy-url": proxy}, {}):
        cluster = {"server": "https://203.0.113.7:6443", **more}
        use(kubeconfig(tmp_path / "mine", clusters=[{"name": "mine", "cluster": cluster}]))
        with pytest.raises(QwenkitError):
            Cluster.connect(Settings(context="mine"), first_answer_s=0)
        monkeypatch.setenv("HTTPS_PROXY", proxy)


@pytest.mark.parametrize(
    ("why", "for_good"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", True),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", True),
        ("[SSL] PEM lib (_ssl.c:4149)", True),
        ("[X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate", True),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol", False),
        ("The handshake operation timed out", False),
        ("[Errno 104] Connection reset by peer", False),
    ],
)
def test_what_tls_says_for_good_is_not_repeated(why: str, for_good: bool) -> None:
    assert is_untrusted(why) is for_good


def test_an_authority_and_no_verification_exclude_each_other(tmp_path: Path, use: Any) -> None:
    cluster = {"server": "https://h", "insecure-skip-tls-verify": True}
    cluster |= {"certificate-authority-data": "eA=="}
    use(kubeconfig(tmp_path / "mine", clusters=[{"name": "mine", "cluster": cluster}]))
    with pytest.raises(InvalidValue, match="KUBECONFIG") as caught:
        connection("mine")
    assert "insecure-skip-tls-verify" in caught.value.why


def test_a_token_with_a_newline_is_sent_without_it_and_a_wrong_one_is_not_shown(
    tmp_path: Path, use: Any, server: str
) -> None:
    use(kubeconfig(tmp_path / "mine", server, **user(token=f"{TOKEN}\n")))
    assert ("Authorization", f"Bearer {TOKEN}") in sent("mine")
    use(kubeconfig(tmp_path / "mine", server, **user(token=f"{TOKEN}\x01more")))
    with pytest.raises(SettingsError, match="kubeconfig") as caught:
        Cluster.connect(Settings(context="mine"))
    assert TOKEN not in str(caught.value) + repr(caught.value.__context__)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_key_of_a_kubeconfig_stays_in_no_temporary_file(
    tmp_path: Path, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("jane@example.org")

    def encoded(*blobs: trustme.Blob) -> str:
        return base64.b64encode(b"".join(blob.bytes() for blob in blobs)).decode()

    pair = {
        "client-certificate-data": encoded(*mine.cert_chain_pems),
        "client-key-data": encoded(mine.private_key_pem),
    }
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"major": "1"})

    app = web.Application()
    app.router.add_get("/version", version)
    with serving(app, tls) as url:
        trusted = {"server": url, "certificate-authority-data": encoded(authority.cert_pem)}
        for cluster in (trusted, {"server": url, "insecure-skip-tls-verify": True}):
            named = [{"name": "mine", "cluster": cluster}]
            use(kubeconfig(tmp_path / "mine", clusters=named, **user(**pair)))
            assert Cluster.connect(Settings(context="mine"))
            assert not list(temporary.iterdir())
        pair["client-key-data"] = encoded(authority.cert_pem)
        use(kubeconfig(tmp_path / "mine", clusters=named, **user(**pair)))
        with pytest.raises(InvalidValue, match="KUBECONFIG"):
            connection("mine")


def test_files_of_another_user_of_the_client_library_stay(tmp_path: Path, use: Any) -> None:
    from kubernetes.config import kube_config

    library: Any = kube_config
    theirs = Path(library._create_temp_file_with_content("their certificate"))
    use(kubeconfig(tmp_path / "mine"))
    connection("mine")
    assert theirs.read_text() == "their certificate"
    library._cleanup_temp_files()
