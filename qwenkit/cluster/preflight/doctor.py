"""Check every prerequisite: what was found, a verdict, the reason and the fix."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from qwenkit.capacity.finding import worst_first
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.preflight.check import (
    Check,
    fail,
    hidden,
    not_applicable,
    ok,
    unknown,
    warn,
)
from qwenkit.cluster.preflight.checks import CHECKS, ClusterChecks
from qwenkit.cluster.preflight.cost import Estimate, estimate
from qwenkit.credentials import Credentials
from qwenkit.errors import Forbidden, PreflightError, QwenkitError, SettingsError
from qwenkit.language import Shown
from qwenkit.settings import Settings

_PROBE_S = 5.0  # the doctor says how things are now
_KEYS = ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")


@dataclass(frozen=True, repr=False)
class PreflightReport(Shown):
    """The checks in the order in which the course needs their subjects, and an estimated cost."""

    checks: tuple[Check, ...]
    cost: Estimate

    @property
    def ok(self) -> bool:
        """Whether no check failed; no other verdict stops the course."""
        return not any(check.verdict == "fail" for check in self.checks)

    def found(self, name: str) -> str:
        """Return what one check found, empty if it did not run."""
        return next((check.found for check in self.checks if check.name == name), "")

    def require(self) -> None:
        """Raise unless every prerequisite is met.

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

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        checks = [asdict(check) for check in self.checks]
        return {"ok": self.ok, "checks": checks, "cost": asdict(self.cost)}


def examine(
    settings: Settings,
    *,
    bucket_check: Callable[[], object],
    secret: str,
    service: Mapping[str, Any],
) -> PreflightReport:
    """Check every prerequisite of the course; what is missing is a verdict, not an error.

    ``bucket_check`` returns the bucket's status or raises; ``secret`` names the Secret to create,
    ``service`` is the Service to deploy.
    """
    cost, unused = estimate(settings), f"storage={settings.storage} needs no bucket"
    of_bucket = [not_applicable(name, unused) for name in ("credentials", "bucket")]
    if settings.storage == "oss":
        of_bucket = [_credentials(), _bucket(settings, bucket_check)]
    checks = [
        _settings(settings),
        *_of_cluster(settings, secret, service),
        *of_bucket,
        ok("cost", f"in one hour {cost}"),
    ]
    return PreflightReport(tuple(checks), cost)


def _settings(settings: Settings) -> Check:
    found = worst_first(settings.contradictions())
    about = f"{settings.model_name or settings.model_source}, {settings.image}"
    if not found:
        return ok("settings", about)
    make = fail if found[0].level == "error" else warn
    return make("settings", about, found[0].message, found[0].fix)


def _of_cluster(settings: Settings, secret: str, service: Mapping[str, Any]) -> Iterable[Check]:
    try:
        cluster = Cluster.connect(settings, first_answer_s=_PROBE_S)
    except QwenkitError as error:
        yield fail("cluster", settings.context, f"{error.what}: {error.why}", error.fix)
        every = (name for names, _ in CHECKS for name in names)
        yield from (unknown(name, "the cluster cannot be reached") for name in every)
        return
    with closing(cluster):
        yield ok("cluster", f"{settings.context} at {cluster.address}")
        checks = ClusterChecks(cluster, settings, secret, service)
        for names, check in CHECKS:
            yield from _verdicts(names, check, checks)


def _verdicts(
    names: Sequence[str], check: Callable[[ClusterChecks], list[Check]], checks: ClusterChecks
) -> list[Check]:
    try:
        return check(checks)
    except Forbidden as error:
        return [hidden(name, error) for name in names]
    except ValueError as error:
        why = f"the cluster's answer cannot be read: {error}"
        return [unknown(name, why) for name in names]
    except QwenkitError as error:
        return [fail(name, "", f"{error.what}: {error.why}", error.fix) for name in names]


def _credentials() -> Check:
    absent = [key for key in _KEYS if not os.environ.get(key, "").strip()]
    if absent:
        why = f"{', '.join(absent)} not in the environment"
        fix = 'export both; for the sandbox: eval "$(qwenkit sandbox env)"'
        return fail("credentials", "not set", why, fix)
    try:
        Credentials.required()
    except SettingsError as error:
        return fail("credentials", error.name, error.why, error.fix)
    token = ", with a session token" if os.environ.get("OSS_SESSION_TOKEN") else ""
    return ok("credentials", f"in the environment{token}")


def _bucket(settings: Settings, bucket_check: Callable[[], object]) -> Check:
    if not settings.bucket:
        return fail("bucket", "not set", "no bucket is named", "export OSS_BUCKET=NAME")
    try:
        found = bucket_check()
        if why := getattr(found, "read_only", ""):
            return warn("bucket", str(found), why, getattr(found, "fix", ""))
        return ok("bucket", str(found))
    except QwenkitError as error:
        return fail("bucket", settings.bucket, f"{error.what}: {error.why}", error.fix)
