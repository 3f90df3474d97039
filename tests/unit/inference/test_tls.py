"""An https gateway whose certificate a company's own authority signed."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from inference_server import HOST, PIECES, Vllm
from servers import Servers

from qwenkit.capacity.simulation.traffic import Arrival, OpenLoop
from qwenkit.errors import QwenkitError, SettingsError, Unreachable
from qwenkit.inference.client import Server
from qwenkit.inference.load.running import start_load
from qwenkit.sandbox.http import listen

TEXT, ONCE = "".join(PIECES), OpenLoop((Arrival(0.0, 9, 3),))


class Gateway:
    """Listens as ``localhost``; ``names`` are those that clients asked for in the handshake."""

    def __init__(self, folder: Path) -> None:
        self.vllm, self.names, self.ca = Vllm(), [], str(folder / "ca.pem")
        authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(tls)
        authority.cert_pem.write_to_path(self.ca)
        tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self.servers = Servers()
        self.listening = self.servers.call(listen(self.vllm.app(), tls=tls))
        self.port = str(self.listening.url).rpartition(":")[2]
        self.url = f"https://localhost:{self.port}"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    made.servers.call(made.listening.close())
    made.servers.close()


def failures(server: Server) -> str:
    """What a load says of its failures."""
    return " ".join(start_load(server, ONCE).result().causes.values())


def test_a_company_s_authority_is_trusted_everywhere(gateway: Gateway) -> None:
    server = Server(gateway.url, HOST, model="qwen", ca=gateway.ca)
    assert server.ask("x").text == "".join(server.stream("x")) == TEXT
    assert start_load(server, ONCE).result().summary()["ok"] == 1
    assert server.without_host().status == 404
    assert set(gateway.names) == {"localhost"}
    assert {headers["Host"] for headers in gateway.vllm.headers} == {HOST}
    command = server.curl("x")
    assert f"--cacert {gateway.ca}" in command
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, timeout=60)
        assert json.loads(done.stdout)["choices"][0]["message"]["content"] == TEXT
    server.close()


def test_what_is_not_trusted_says_what_to_do(gateway: Gateway, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    by_address = f"https://127.0.0.1:{gateway.port}"
    for url, ca, fix in (
        (gateway.url, "", "gateway_ca=FILE"),
        (gateway.url, str(tmp_path / "other.pem"), "gateway_ca=FILE"),
        (by_address, gateway.ca, "name that its certificate has"),
    ):
        server = Server(url, HOST, model="qwen", ca=ca)
        for ask in (lambda s: s.ask("x"), lambda s: list(s.stream("x")), Server.without_host):
            with pytest.raises(Unreachable, match="no connection") as caught:
                ask(server)
            assert fix in caught.value.fix
        assert fix in failures(server)
        server.close()
    assert gateway.vllm.bodies == []


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_file_that_holds_no_authority_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    server = Server("https://127.0.0.1:9", HOST, model="qwen", ca=str(path))
    for fails in (lambda: server.ask("x"), lambda: start_load(server, ONCE), server.without_host):
        with pytest.raises(SettingsError, match="gateway_ca"):
            fails()


def test_a_port_without_tls_is_said() -> None:
    servers = Servers()
    port = servers.serve(Vllm().app()).rpartition(":")[2]
    server = Server(f"https://127.0.0.1:{port}", HOST, model="qwen", timeout_s=5)
    with pytest.raises(QwenkitError) as caught:
        server.ask("x")
    assert "speaks no TLS" in caught.value.fix
    server.close()
    servers.close()
