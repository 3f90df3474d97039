"""Disturb the Kubernetes API at random moments of deploy, load and teardown, and judge each end.

A proxy before a sandbox's API, over real TCP and TLS, spoils one request: every verb with every
fault. Each step must end well, or with one error of qwenkit, within its deadline; and a later
teardown must leave nothing. Exit 1 if a row is bad.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faulty_api import FAULTS, Fault, FaultyApi

from qwenkit import steps
from qwenkit.cluster.change.proposal import propose_change
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.watching import ClusterWatch
from qwenkit.errors import QwenkitError
from qwenkit.sandbox import process
from qwenkit.sandbox.kube.kubeconfig import write_kubeconfig
from qwenkit.sandbox.kube.tls import make_certificates
from qwenkit.sandbox.state_files import SandboxOptions
from qwenkit.settings import Settings

VERBS = ("READ", "GET", "LIST", "PATCH", "DELETE")
# The limits of a step: the first answer, what is sent before a wait, and its waits.
_FIRST_S, _STEP_S, _MARGIN_S = 30.0, 60.0, 15.0


@dataclass
class Row:
    """One disturbed course of deploy, load and teardown."""

    verb: str
    fault: str
    hit: str = "not met"
    ended: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the row as a line of the table."""
        ends = ", ".join(f"{s} {e} {self.seconds[s]:.0f} s" for s, e in self.ended.items())
        verdict = "BAD: " + "; ".join(self.bad) if self.bad else "good"
        return f"{self.verb:7}{self.fault:14}{self.hit:68.68}  {ends}  {verdict}"


def deploy(settings: Settings) -> None:
    """Deploy and wait."""
    steps.deploy(settings)


def load(settings: Settings) -> None:
    """Load the server, which no fault of the API may disturb, and change its scaling."""
    cluster = Cluster.connect(settings)
    with ClusterWatch(cluster, settings.service, every_s=0.2):
        result = steps.run_load(settings)
    if set(result.summary()["errors"]):
        raise AssertionError(f"the load had errors: {result.summary()['errors']}")
    target = str(random.randint(2, 9))
    change = propose_change(cluster, settings.service, {"target": target})
    change.apply("surge", timeout_s=_STEP_S)


def teardown(settings: Settings) -> None:
    """Tear down; the weights stay."""
    steps.teardown(settings)


STEPS: dict[str, Callable[[Settings], None]] = {
    "deploy": deploy,
    "load": load,
    "teardown": teardown,
}


def course(settings: Settings, row: Row) -> Row:
    """Run the steps; a step that fails with an error of ours ends all but the teardown."""
    limit_s = _FIRST_S + 2 * _STEP_S + _MARGIN_S
    for name, step in STEPS.items():
        if name == "load" and row.ended["deploy"] != "ok":
            continue
        began = time.monotonic()
        try:
            step(settings)
            row.ended[name] = "ok"
        except QwenkitError as error:
            row.ended[name] = f"{type(error).__name__} ({error.what})"
            if not error.fix:
                row.bad.append(f"{name}: the error has no fix")
        except Exception as error:
            row.ended[name] = repr(error)
            row.bad.append(f"{name}: {error!r}")
        row.seconds[name] = round(time.monotonic() - began, 1)
        if row.seconds[name] > limit_s:
            row.bad.append(f"{name}: {row.seconds[name]} s, more than {limit_s:g}")
    return row


def judged(proxy: FaultyApi, settings: Settings, row: Row) -> Row:
    """Run one disturbed course, then tear down undisturbed and audit."""
    course(settings, row)
    row.hit = ", ".join(proxy.hits) or row.hit
    proxy.arm()
    row.left = list(steps.remove_and_audit(settings).leaks.found)
    row.bad += [f"left: {one}" for one in row.left]
    return row


@contextmanager
def disturbed(silence_s: float) -> Iterator[tuple[FaultyApi, Settings]]:
    """Start a sandbox with weights behind a proxy; yields the proxy and the settings."""
    with process.attached(SandboxOptions(time_scale=20)) as (root, state), _environment():
        os.environ.update(process.environment(root))
        source = f"modelscope:{Settings().model_source.partition(':')[2]}"
        target = f"oss://{os.environ['OSS_BUCKET']}/{Settings().prefix}"
        upload = [sys.executable, "-m", "qwenkit", "upload", source, target, "--json"]
        subprocess.run(upload, check=True, capture_output=True)
        config = json.loads((root / "kubeconfig").read_text())
        authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
        trusted = ssl.create_default_context(cadata=_pem(authority))
        own = make_certificates()
        proxy = FaultyApi(state.api, trusted, silence_s=silence_s)
        with proxy.serving(own.ssl_context):
            path = Path(root) / "kubeconfig-of-the-proxy"
            token = config["users"][0]["user"]["token"]
            write_kubeconfig(path, server=proxy.url, ca_pem=own.ca_pem, token=token)
            os.environ["KUBECONFIG"] = str(path)
            try:
                yield proxy, Settings(timeout_s=_STEP_S, load_clients=2, load_seconds=1.0)
            finally:
                path.unlink()


@contextmanager
def _environment() -> Iterator[None]:
    """Restore the environment at the end."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _pem(data: str) -> str:
    import base64

    return base64.b64decode(data).decode()


def main() -> int:
    """Print the table; return 1 if a row is bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--rounds", type=int, default=1, help="courses of each row")
    parser.add_argument("--verbs", default=",".join(VERBS), help="which, separated by commas")
    parser.add_argument("--faults", default=",".join(FAULTS), help="which, separated by commas")
    parser.add_argument("--silence", type=float, default=20.0, help="seconds of a silence")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    moments = random.Random(given.seed)
    rows: list[Row] = []
    with disturbed(given.silence) as (proxy, settings):
        clean = judged(proxy, settings, Row("none", "none"))
        proxy.arm()
        course(settings, Row("none", "none"))
        counts = dict(proxy.seen)
        rows.append(clean)
        for verb in given.verbs.split(","):
            for fault in given.faults.split(","):
                for _ in range(given.rounds):
                    proxy.arm(Fault(verb, fault, moments.randrange(counts[verb])))
                    rows.append(judged(proxy, settings, Row(verb, fault)))
                    if not given.json:
                        print(rows[-1].line(), flush=True)
    bad = sum(bool(row.bad) for row in rows)
    if given.json:
        print(json.dumps({"ok": not bad, "rows": [asdict(row) for row in rows]}))
    else:
        print(f"{len(rows)} courses, {bad} bad; requests of an undisturbed one: {_counts(counts)}")
    return 1 if bad else 0


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{verb} {count}" for verb, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
