"""What a list returns: query parameters, selectors and pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.paths import ResourcePath
from qwenkit.sandbox.kube.reads import selectors
from qwenkit.sandbox.kube.reads.numbers import integer
from qwenkit.sandbox.kube.reads.selectors import Predicate
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.untrusted.parsing import parse_json


@dataclass(frozen=True)
class Query:
    """The parameters of a list or watch, checked."""

    selects: Predicate
    watch: bool
    resource_version: str
    exact: bool
    limit: int
    continues: str
    timeout_s: float
    bookmarks: bool

    @classmethod
    def parse(cls, query: Mapping[str, str], resource: ResourcePath) -> Query:
        """Read a query string.

        Raises:
            ApiError: 400 for a bad selector or number; 422 for resource the sandbox leaves out.
        """
        if query.get("sendInitialEvents"):
            raise ApiError(
                422,
                "Invalid",
                'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: '
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is "
                "enabled",
            )
        version = query.get("resourceVersion", "")
        if version:
            version = str(integer(version, low=0, high=2**64 - 1))
        return cls(
            selects=_selects(query, resource),
            watch=_flag(query, "watch"),
            resource_version=version,
            exact=query.get("resourceVersionMatch") == "Exact",
            limit=max(0, integer(query.get("limit") or "0")),
            continues=query.get("continue", ""),
            timeout_s=max(0, integer(query.get("timeoutSeconds") or "0")),
            bookmarks=_flag(query, "allowWatchBookmarks"),
        )


def page(store: ObjectStore, resource: ResourcePath, query: Query) -> tuple[list[Object], Object]:
    """Return the objects of one page, and the metadata of the list.

    All pages show the state at the version of the first one.

    Raises:
        ApiError: 410, history no longer reaches back to that version; 504, it is in the future.
    """
    after: tuple[str, str] | None = None
    revision = store.revision
    if query.continues:
        revision, after = _decode(query.continues)
    elif query.resource_version and int(query.resource_version) > revision:
        text = f"Too large resource version: {query.resource_version}, current: {revision}"
        raise ApiError(504, "Timeout", text, {"retryAfterSeconds": 1})
    elif query.exact:
        revision = int(query.resource_version or revision)
    at_revision = None if revision == store.revision else revision
    found = [
        obj
        for obj in store.list(resource.kind, resource.namespace, at_revision=at_revision)
        if query.selects(obj) and (after is None or _key(obj) > after)
    ]
    metadata: Object = {"resourceVersion": str(revision)}
    if query.limit and len(found) > query.limit:
        metadata["continue"] = _encode(revision, _key(found[query.limit - 1]))
        metadata["remainingItemCount"] = len(found) - query.limit
        found = found[: query.limit]
    return found, metadata


def _selects(query: Mapping[str, str], resource: ResourcePath) -> Predicate:
    labels = selectors.by_labels(query.get("labelSelector", ""))
    fields = selectors.by_fields(query.get("fieldSelector", ""), resource.kind)

    def selects(obj: Object) -> bool:
        metadata = obj["metadata"]
        return (
            resource.namespace in (None, metadata.get("namespace"))
            and resource.name in ("", metadata["name"])
            and labels(obj)
            and fields(obj)
        )

    return selects


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _encode(revision: int, key: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps([revision, *key]).encode()).decode()


def _decode(token: str) -> tuple[int, tuple[str, str]]:
    try:
        revision, namespace, name = parse_json(base64.urlsafe_b64decode(token))
        if not (isinstance(revision, int) and isinstance(namespace, str) and isinstance(name, str)):
            raise TypeError
        return revision, (namespace, name)
    except (ValueError, TypeError) as error:
        raise bad_request("continue key is not valid: no token of this server") from error
