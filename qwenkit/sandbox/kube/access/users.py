"""Who sends a request: the admin, a ServiceAccount with its token, or whom these impersonate."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from multidict import CIMultiDictProxy

from qwenkit.admission import field_errors
from qwenkit.sandbox.kube import api_error
from qwenkit.sandbox.kube.access.attributes import Attributes
from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.kinds import ResourceKind
from qwenkit.sandbox.kube.objects import Object, at, timestamp
from qwenkit.sandbox.kube.storage.store import ObjectStore

TOKEN_REQUEST = ResourceKind(
    "TokenRequest", "TokenRequest", "authentication.k8s.io", "v1", "tokenrequests", "tokenrequest"
)
MASTERS = "system:masters"
AUTHENTICATED, UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
_ACCOUNT = re.compile("system:serviceaccount:([^:]+):([^:]+)")
_HOUR_S, _LEAST_S = 3600, 600


@dataclass(frozen=True)
class User:
    """A name and its groups, as bindings name them."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""


ADMIN = User("admin", (MASTERS, AUTHENTICATED))
ANONYMOUS = User("system:anonymous", (UNAUTHENTICATED,))


def account_name(namespace: str, name: str) -> str:
    """Return the user name of a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{name}"


class Users:
    """Knows the admin's token, and those that it issues to ServiceAccounts, until it ends."""

    def __init__(self, store: ObjectStore, admin_token: str) -> None:
        self._store, self._admin_token = store, admin_token.encode()
        self._issued: dict[bytes, tuple[Object, float]] = {}  # to whom, and until when

    def authenticate(self, header: str) -> User:
        """Return whose token the header ``Authorization`` has.

        Raises:
            ApiError: 401, nobody's.
        """
        scheme, _, token = header.partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "bearer":
            if secrets.compare_digest(given, self._admin_token):
                return ADMIN
            account, expires = self._issued.get(given, ({}, 0.0))
            space, name, uid = (account.get(key, "") for key in ("namespace", "name", "uid"))
            live = self._store.find("ServiceAccount", space, name)
            if time.time() < expires and at(live, "metadata", "uid") == uid:
                return User(account_name(space, name), (*_groups(space), AUTHENTICATED), uid)
        raise ApiError(401, "Unauthorized", "Unauthorized")

    def issue(self, account: Object, request: Any) -> Object:
        """Answer a ``TokenRequest`` for a ServiceAccount.

        Raises:
            ApiError: 400, it is no TokenRequest; 422, the time is too short or long.
        """
        spec = at(request, "spec") or {}
        seconds = at(spec, "expirationSeconds") or _HOUR_S
        if not isinstance(spec, dict) or not isinstance(seconds, int):
            raise bad_request("the object provided is unrecognized: it must be a TokenRequest")
        if not _LEAST_S <= seconds <= 2**32:
            size = "larger than 2^32 seconds" if seconds > _LEAST_S else "less than 10 minutes"
            rule = f"may not specify a duration {size}"
            error = field_errors.invalid("spec.expirationSeconds", seconds, rule)
            raise api_error.invalid(TOKEN_REQUEST, "", [error])
        token, expires = secrets.token_urlsafe(32), time.time() + seconds
        self._issued[token.encode()] = (account["metadata"], expires)
        until = timestamp(datetime.fromtimestamp(expires, UTC))
        return {
            "kind": TOKEN_REQUEST.kind,
            "apiVersion": TOKEN_REQUEST.api_version,
            "metadata": {key: account["metadata"][key] for key in ("name", "namespace")},
            "spec": spec | {"expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": until},
        }


def impersonated(headers: CIMultiDictProxy[str]) -> tuple[User, list[Attributes]] | None:
    """Return whom a request is sent for, and what its sender needs for that, or None.

    Raises:
        ApiError: 501, without a user, or more than a user and groups.
    """
    given = {key.lower() for key in headers if key.lower().startswith("impersonate-")}
    if not given:
        return None
    name, groups = headers.get("Impersonate-User", ""), headers.getall("Impersonate-Group", [])
    if not name or given - {"impersonate-user", "impersonate-group"}:
        text = "impersonation by other than a user, with groups or without, is not part of the"
        raise ApiError(501, "NotImplemented", f"{text} sandbox")
    needed = [Attributes("impersonate", resource="groups", name=group) for group in groups]
    if account := _ACCOUNT.fullmatch(name):
        of = {"resource": "serviceaccounts", "namespace": account[1], "name": account[2]}
        groups = groups or list(_groups(account[1]))
    else:
        of = {"resource": "users", "name": name}
    return User(name, (*groups, AUTHENTICATED)), [Attributes("impersonate", **of), *needed]


def _groups(namespace: str) -> tuple[str, str]:
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
