"""Preflight: every prerequisite with what was found, a verdict, the reason and the fix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.preflight.checks import CHECKS
from qwenkit.cluster.preflight.cost import Estimate, estimate
from qwenkit.cluster.preflight.verdicts import Check, fail, ok, unknown
from qwenkit.errors import Forbidden, PreflightError, QwenkitError
from qwenkit.settings import Settings

_KEYS = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")


@dataclass(frozen=True, repr=False)
class Report:
    """The checks in the order in which their subjects are needed."""

    checks: tuple[Check, ...]

    cost: Estimate

    @property
    def ok(self) -> bool:
        """Whether no check failed; a warning or an unknown does not stop the course."""
        return not any(check.verdict == "fail" for check in self.checks)

    def found(self, name: str) -> str:
        """Return what was found for one check, empty if it was not taken."""
        return next((check.found for check in self.checks if check.name == name), "")

    def require(self) -> None:
        """Stop here unless every prerequisite is met.

        Raises:
            PreflightError: names the checks that failed, with the fix of each.
        """
        failed = [check for check in self.checks if check.verdict == "fail"]
        if failed:
            raise PreflightError(
                f"prerequisites are missing: {', '.join(c.name for c in failed)}",
                "; ".join(f"{c.name}: {c.why}" for c in failed),
                "; ".join(f"{c.name}: {c.fix}" for c in failed if c.fix),
            )

    def __str__(self) -> str:
        return "\n".join(line for check in self.checks for line in check.lines())

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        checks = [asdict(check) for check in self.checks]
        return {"ok": self.ok, "checks": checks, "cost": asdict(self.cost)}


def examine(
    cluster: Cluster | QwenkitError,
    settings: Settings,
    *,
    bucket_check: Callable[[], object] | None = None,
    secret: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Report:
    """Check every prerequisite of the course; never raises for what it finds.

    Args:
        cluster: the cluster, or the error that connecting to it raised.
        settings: what is going to be deployed.
        bucket_check: returns what was found in the bucket (shown by ``str``), or raises.
        secret: name of the Secret that will be created, to see that it is free.
        environ: the environment to look for credentials in; default this process's.
    """
    environment = os.environ if environ is None else environ
    checks = list(_of_cluster(cluster, settings, secret))
    checks.append(_credentials(environment))
    checks.append(_bucket(settings, bucket_check))
    cost = estimate(settings)
    checks.append(ok("cost", f"in one hour {cost}"))
    return Report(tuple(checks), cost)


def _of_cluster(
    cluster: Cluster | QwenkitError, settings: Settings, secret: str | None
) -> Iterable[Check]:
    if isinstance(cluster, QwenkitError):
        yield fail("cluster", settings.context, f"{cluster.what}: {cluster.why}", cluster.fix)
        yield from (unknown(name, "the cluster cannot be asked") for name, _ in CHECKS)
        return
    try:
        version = cluster.version()
    except QwenkitError as error:
        yield from _of_cluster(error, settings, secret)
        return
    yield ok("cluster", f"{settings.context} at {cluster.address}, {version.get('gitVersion')}")
    for name, check in CHECKS:
        yield from _guarded(name, partial(check, cluster, settings, secret))


def _guarded(name: str, check: Callable[[], Iterable[Check]]) -> list[Check]:
    try:
        return list(check())
    except Forbidden as error:
        return [unknown(name, f"not allowed to look: {error.why}", error.fix)]
    except QwenkitError as error:
        return [fail(name, "", f"{error.what}: {error.why}", error.fix)]


def _credentials(environ: Mapping[str, str]) -> Check:
    absent = [key for key in _KEYS if not environ.get(key, "").strip()]
    if absent:
        return fail(
            "credentials",
            "not set",
            f"{', '.join(absent)} not in the environment",
            'export both; for the sandbox: eval "$(qwenkit sandbox env)"',
        )
    token = ", with a session token" if environ.get("OSS_SESSION_TOKEN") else ""
    return ok("credentials", f"in the environment{token}")


def _bucket(settings: Settings, bucket_check: Callable[[], object] | None) -> Check:
    if not settings.bucket:
        return fail("bucket", "not set", "no bucket is named", "export OSS_BUCKET=NAME")
    if bucket_check is None:
        return unknown("bucket", "nobody looked")
    try:
        return ok("bucket", str(bucket_check()))
    except QwenkitError as error:
        return fail("bucket", settings.bucket, f"{error.what}: {error.why}", error.fix)
