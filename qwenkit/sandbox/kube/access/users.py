"""Who sends a request: the admin, a ServiceAccount with its token, or whom these impersonate."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import time
import uuid
from collections.abc import Iterator
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
_ISSUER = "https://kubernetes.default.svc"
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
        self._store, self._admin_token = store, admin_token
        self._key = secrets.token_bytes(32)

    def authenticate(self, header: str) -> User:
        """Return whose token the header ``Authorization`` has.

        Raises:
            ApiError: 401, nobody's.
        """
        scheme, _, token = header.partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "bearer":
            if hmac.compare_digest(given, self._admin_token.encode()):
                return ADMIN
            if user := self._account_of(given):
                return user
        raise ApiError(401, "Unauthorized", "Unauthorized")

    def issue(self, account: Object, request: Any) -> Object:
        """Answer a ``TokenRequest``: a JSON web token for a ServiceAccount.

        Raises:
            ApiError: 400, it is no TokenRequest; 422, the time is too short.
        """
        if not isinstance(request, dict) or not isinstance(request.get("spec") or {}, dict):
            raise bad_request("the object provided is unrecognized: it must be a TokenRequest")
        spec = {"audiences": [_ISSUER], "expirationSeconds": _HOUR_S} | (request.get("spec") or {})
        seconds, metadata = spec["expirationSeconds"], account["metadata"]
        if not isinstance(seconds, int):
            raise bad_request("TokenRequest: spec.expirationSeconds must be a whole number")
        if not _LEAST_S <= seconds <= 2**32:
            size = "larger than 2^32 seconds" if seconds > _LEAST_S else "less than 10 minutes"
            rule = f"may not specify a duration {size}"
            error = field_errors.invalid("spec.expirationSeconds", seconds, rule)
            raise api_error.invalid(TOKEN_REQUEST, "", [error])
        now = int(time.time())
        claims = {
            "aud": spec["audiences"],
            "exp": now + seconds,
            "iat": now,
            "iss": _ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": metadata["namespace"],
                "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
            },
            "sub": account_name(metadata["namespace"], metadata["name"]),
        }
        head = _encoded(b'{"alg":"HS256"}') + b"." + _encoded(json.dumps(claims).encode())
        token = (head + b"." + self._signature(head)).decode()
        expires = timestamp(datetime.fromtimestamp(now + seconds, UTC))
        return {
            "kind": TOKEN_REQUEST.kind,
            "apiVersion": TOKEN_REQUEST.api_version,
            "metadata": {key: metadata[key] for key in ("name", "namespace")},
            "spec": spec,
            "status": {"token": token, "expirationTimestamp": expires},
        }

    def _account_of(self, token: bytes) -> User | None:
        head, _, signature = token.rpartition(b".")
        if not hmac.compare_digest(signature, self._signature(head)):
            return None
        content = head.partition(b".")[2]
        claims = json.loads(base64.urlsafe_b64decode(content + b"=" * (-len(content) % 4)))
        own = claims["kubernetes.io"]
        name, space = own["serviceaccount"]["name"], own["namespace"]
        account = self._store.find("ServiceAccount", space, name)
        uid = at(account, "metadata", "uid")
        if claims["exp"] < time.time() or uid != own["serviceaccount"]["uid"]:
            return None
        return User(claims["sub"], (*_groups(space), AUTHENTICATED), uid)

    def _signature(self, head: bytes) -> bytes:
        return _encoded(hmac.digest(self._key, head, hashlib.sha256))


def impersonated(headers: CIMultiDictProxy[str]) -> tuple[User, list[Attributes]] | None:
    """Return whom a request is sent for, and what its sender needs for that, or None.

    Raises:
        ApiError: 400, groups without a user; 501, more than a user and groups.
    """
    given = {key.lower() for key in headers if key.lower().startswith("impersonate-")}
    if more := given - {"impersonate-user", "impersonate-group"}:
        raise ApiError(501, "NotImplemented", f"{min(more)} is not part of the sandbox")
    if not given:
        return None
    name, groups = headers.get("Impersonate-User", ""), headers.getall("Impersonate-Group", [])
    if not name:
        raise bad_request(f"requested groups {groups} without impersonating a user")
    needed = list(_needed(name, groups))
    account = _ACCOUNT.fullmatch(name)
    if account and not groups:
        groups = list(_groups(account[1]))
    return User(name, (*groups, AUTHENTICATED)), needed


def _needed(name: str, groups: list[str]) -> Iterator[Attributes]:
    if account := _ACCOUNT.fullmatch(name):
        yield Attributes(
            "impersonate", resource="serviceaccounts", namespace=account[1], name=account[2]
        )
    else:
        yield Attributes("impersonate", resource="users", name=name)
    yield from (Attributes("impersonate", resource="groups", name=group) for group in groups)


def _groups(namespace: str) -> tuple[str, str]:
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")


def _encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
