"""What a refusal of the API server means: one table of status to error, one of message to fix."""

from __future__ import annotations

import re
from typing import Any

from qwenkit.admission.feature_flags import enable_command, flags_missing_in
from qwenkit.cluster.api.connect import SANDBOX, START_SANDBOX
from qwenkit.cluster.api.retries import is_denied, is_untrusted
from qwenkit.cluster.api.transport import Reply
from qwenkit.errors import Conflict, Forbidden, NotFound, QwenkitError, Rejected, Unreachable
from qwenkit.untrusted.parsing import parse_json

_MAY_NOT = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_CORRECT = "correct what the message names; qwenkit render shows the objects"
_BY_STATUS: dict[int, tuple[type[QwenkitError], str]] = {
    400: (Rejected, _CORRECT),
    401: (Forbidden, "the credentials of this context are wrong or expired; log in again"),
    403: (Forbidden, "ask the cluster's administrator for a role that may do this"),
    404: (NotFound, "check the name and the namespace; qwenkit deploy creates it"),
    405: (Rejected, ""),
    409: (Conflict, "it was changed at the same time; try again"),
    410: (Conflict, "the list changed while it was read; try again"),
    413: (Rejected, "the object is too large"),
    415: (Rejected, ""),
    422: (Rejected, _CORRECT),
    429: (Unreachable, "the API server is overloaded; try again later"),
}
_SERVER_FAILED = (
    "the API server or a webhook behind it is failing; kubectl get --raw /readyz?verbose"
)
_UNTRUSTED = (
    "check certificate-authority-data and the server's name in the kubeconfig, and the clock here; "
    "a cluster that was created again has a new authority"
)
_OTHER_SERVER = (
    "a proxy or another server answers: does the kubeconfig's server point at the API server?"
)
_FIXES: tuple[tuple[str, str], ...] = (
    (
        r"spec\.persistentvolumesource.*immutable",
        "a PV's source cannot change: choose another volume, --set volume=NAME; a service that "
        "serves goes over to it in a new revision. Or remove the old one: qwenkit teardown",
    ),
    (
        r"expected 0 <= \d+ <= \d+: \S*\.timeoutSeconds",
        "lower request_timeout_s, or raise max-revision-timeout-seconds in the ConfigMap "
        "knative-serving/config-defaults",
    ),
    (r"exceeded quota", "free or raise the namespace's ResourceQuota: kubectl describe quota"),
    (
        r"failed calling webhook",
        "Knative's webhook does not answer: kubectl get pods -n knative-serving",
    ),
    (
        r"being terminated",
        "wait until the namespace is gone and create it again, or choose another",
    ),
    (
        r"namespaces? \"[^\"]+\" not found",
        "create the namespace, or choose another with --set namespace=NAME",
    ),
)


def from_api(reply: Reply, what: str, **facts: Any) -> QwenkitError:
    """Translate an answer that is not a success into the error of its status, with a fix.

    ``what`` names the operation that failed.
    """
    status, message = reply.status, message_of(reply)
    unknown = Unreachable if status >= 500 or status < 400 else QwenkitError
    cls, fix = _BY_STATUS.get(status, (unknown, _SERVER_FAILED))
    if status < 400:
        fix = _OTHER_SERVER
    if status in (403, 500) and is_denied(message):
        cls, fix = Rejected, ""
    if reply.is_html and cls in (NotFound, Unreachable):
        cls, fix = Unreachable, _OTHER_SERVER
    return cls(what, message, _fix_for(message) or fix, status=status, **facts)


def unreachable(why: str, address: str, context: str, what: str, **facts: Any) -> Unreachable:
    """Return the error for a connection that failed: no answer, or no trust."""
    if is_untrusted(why):
        what, fix = f"{what}: no trusted connection to {address}", _UNTRUSTED
    else:
        what = f"{what}: no answer from the Kubernetes API at {address}"
        fix = (
            f"is it up? {START_SANDBOX}"
            if context == SANDBOX
            else "is the cluster up, and can this machine reach it (VPN, firewall, HTTPS_PROXY)?"
        )
    return Unreachable(what, why, fix, address=address, **facts)


def not_an_api(reply: Reply, address: str, why: str) -> Unreachable:
    """Return the error for a success that no API server sends; ``why`` says what is wrong."""
    start = reply.body[:80].decode("utf-8", "replace")
    what = f"{address} did not answer as a Kubernetes API"
    return Unreachable(what, f"{why}; the answer begins with {start!r}", _OTHER_SERVER)


def needs(message: str) -> str:
    """Return what a role lacks by a message: verb, resource and scope; empty if it lacks nothing.

    >>> needs('cannot list resource "jobs" in API group "batch" in the namespace "team"')
    'list jobs.batch in namespace team'
    """
    found = _MAY_NOT.search(message)
    if found is None:
        return ""
    where = f"in namespace {found['namespace']}" if found["namespace"] else "at cluster scope"
    return f"{found['verb']} {'.'.join(filter(None, found.group('resource', 'group')))} {where}"


def may_not_look(*errors: Forbidden) -> str:
    """Say what a role needs to look at something."""
    found = ((needs(error.why), error.why) for error in errors)
    parts = dict.fromkeys(f"the role needs {needed}" if needed else why for needed, why in found)
    return f"may not look: {'; '.join(parts)}"


def message_of(reply: Reply) -> str:
    """Return the message of a ``Status``, else the reason of the status line."""
    try:
        return str(parse_json(reply.body or b"{}").get("message") or reply.reason or "")
    except (ValueError, AttributeError):
        return f"{reply.reason or ''}{', as a web page' if reply.is_html else ''}".strip()


def _fix_for(message: str) -> str:
    """Return the fix for a message of the server, empty if none is known."""
    if needed := needs(message):
        return f"ask an administrator for a role that may {needed}"
    flags = flags_missing_in(message)
    if flags:
        return enable_command(*flags)
    return next((fix for rule, fix in _FIXES if re.search(rule, message, re.IGNORECASE)), "")
