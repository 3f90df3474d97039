"""A Kubernetes API of the sandbox on its own thread, for the tests that speak to it over HTTPS."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from qwenkit.errors import Rejected
from qwenkit.sandbox.http import listen
from qwenkit.sandbox.kube.kinds import Kinds
from qwenkit.sandbox.kube.kubeconfig import write_kubeconfig
from qwenkit.sandbox.kube.server import KubeApi
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kube.tls import make_certificates

TOKEN = "a-token-of-the-tests"


def admit(
    operation: str, kind: str, obj: Any, old: Any, dry_run: bool, user: str
) -> dict[str, Any]:
    """Stand for a webhook: refuse one image, and say who created a Service."""
    if kind != "KnativeService":
        return obj  # type: ignore[no-any-return]
    image = obj["spec"]["template"]["spec"]["containers"][0]["image"]
    if image == "refused":
        raise Rejected(
            'admission webhook "validation.webhook.serving.knative.dev" denied the request: no',
            status=400,
            reason="BadRequest",
        )
    annotations = {**obj["metadata"].get("annotations", {}), "serving.knative.dev/creator": user}
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


async def logs(
    namespace: str, pod: str, container: str, *, follow: bool, previous: bool, timestamps: bool
) -> AsyncIterator[bytes]:
    before = " before" if previous else ""
    yield f"{namespace}/{pod}/{container}{before}\nthe last line\n".encode()
    if follow:
        yield b"and more\n"


@dataclass
class Cluster:
    store: ObjectStore
    url: str
    folder: Path
    loop: asyncio.AbstractEventLoop
    ports: dict[str, str] = field(default_factory=dict)
    """What listens on the ports of pods and Services: port to URL."""

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def on_loop(self, call: Callable[[ObjectStore], Any]) -> Any:
        """Run ``call(store)`` on the server's thread, as a controller would."""

        async def run() -> Any:
            return call(self.store)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout=60)

    def http(self, method: str, path: str, **how: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {TOKEN}", **how.pop("headers", {})}
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(
                method,
                self.url + path,
                headers=headers,
                verify=str(self.folder / "ca.crt"),
                timeout=60,
                **how,
            )
            response.content  # noqa: B018
            return response

    def kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        program = shutil.which("kubectl")
        assert program, "these tests need the real kubectl on PATH; install it and run again"
        return subprocess.run(
            [program, f"--cache-dir={self.folder / 'cache'}", *arguments],
            input=stdin,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def environment(self) -> dict[str, str]:
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        return {**kept, "KUBECONFIG": str(self.kubeconfig)}

    def said(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl, which must succeed, and return its output."""
        done = self.kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def got(self, *arguments: str) -> Any:
        return json.loads(self.said("get", *arguments, "-o", "json"))


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Serve a cluster with the namespace ``default`` until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="kube-api")
    thread.start()

    ports: dict[str, str] = {}

    async def start() -> tuple[ObjectStore, Any]:
        store = ObjectStore(Kinds())
        store.create("Namespace", {"metadata": {"name": "default"}})
        certificates = make_certificates()
        (folder / "ca.crt").write_text(certificates.ca_pem)
        api = KubeApi(
            store, token=TOKEN, admit=admit, logs=logs, dial=lambda _, port: ports.get(port)
        )
        listening = await listen(api.app(), tls=certificates.ssl_context)
        write_kubeconfig(
            folder / "kubeconfig", server=listening.url, ca_pem=certificates.ca_pem, token=TOKEN
        )
        return store, listening

    async def stop() -> None:
        await listening.close()
        for _ in range(50):
            await asyncio.sleep(0)

    store, listening = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=60)
    try:
        yield Cluster(store, listening.url, folder, loop, ports)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=60)
        loop.close()
