"""The HTTP server of the Kubernetes API: authentication, routing, answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from aiohttp import web

from qwenkit.admission.field_errors import invalid, unsupported
from qwenkit.sandbox.connections import bodies
from qwenkit.sandbox.kube import health
from qwenkit.sandbox.kube.access.attributes import Attributes, requested
from qwenkit.sandbox.kube.access.built_in_roles import ensure_roles
from qwenkit.sandbox.kube.access.rbac import Authorizer
from qwenkit.sandbox.kube.access.reviews import review_at
from qwenkit.sandbox.kube.access.users import ANONYMOUS, User, Users, impersonated
from qwenkit.sandbox.kube.api_error import ApiError, bad_request
from qwenkit.sandbox.kube.discovery import OPENAPI_V2, OPENAPI_V2_TYPE, VERSION, Discovery
from qwenkit.sandbox.kube.kinds import READ_ONLY
from qwenkit.sandbox.kube.metrics import RequestCounter
from qwenkit.sandbox.kube.objects import Object, utc_now
from qwenkit.sandbox.kube.paths import ResourcePath, parse_path
from qwenkit.sandbox.kube.reads import proxy, representation, watch
from qwenkit.sandbox.kube.reads.listing import Query, page
from qwenkit.sandbox.kube.reads.numbers import integer
from qwenkit.sandbox.kube.reads.pod_logs import LogSource, stream_logs
from qwenkit.sandbox.kube.reads.proxy import Dial
from qwenkit.sandbox.kube.scale import SCALE, scale_of
from qwenkit.sandbox.kube.schema import built_in_kinds
from qwenkit.sandbox.kube.schema.crds import ensure_definitions
from qwenkit.sandbox.kube.schema.request_bodies import APPLY, decode
from qwenkit.sandbox.kube.storage.history import Subscription
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.sandbox.kube.writes.write_requests import Admit, Writer, WriteRequest, WriteResult

log = logging.getLogger("qwenkit.sandbox.kube")

_MAX_BODY = 3 * 2**20
_POD_TOKEN_S = 365 * 86_400  # nothing here renews it
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_OPTIONS = {"POST": "Create", "PUT": "Update", "PATCH": "Patch"}
_PROPAGATION = ("Background", "Foreground", "Orphan")
_DRY = ("All",)
_WATCH_SECONDS = 3600.0
_MANAGER_LENGTH = 128
_WARNINGS, _WARNING_LENGTH = 16, 256
_UNSENT_BYTES = 2**24
# Who sends the request that this task answers.
_USER: ContextVar[User] = ContextVar("user")


class KubeApi:
    """The API server.

    Args:
        store: the cluster's objects.
        token: the bearer token of the user ``admin``, who may do everything.
        admit: the admission webhooks, see ``write_requests.Admit``.
        logs: where ``kubectl logs`` reads, see ``pod_logs.LogSource``.
        dial: finds what listens on a port of a pod or a Service, see ``proxy.Dial``.
    """

    def __init__(
        self, store: ObjectStore, *, token: str, admit: Admit, logs: LogSource, dial: Dial
    ) -> None:
        self._store, self._logs, self._dial = store, logs, dial
        self._users, self._authorizer = Users(store, token), Authorizer(store)
        self._writer = Writer(store, admit)
        self._discovery = Discovery(store.kinds)
        self._watches: set[Subscription] = set()
        self._requests = RequestCounter()
        ensure_definitions(store)
        ensure_roles(store)

    def token_of(self, namespace: str, account: str) -> str:
        """Return a token of a ServiceAccount, as the kubelet gets one for a pod."""
        found = self._store.get("ServiceAccount", namespace, account)
        request = {"spec": {"expirationSeconds": _POD_TOKEN_S}}
        return str(self._users.issue(found, request)["status"]["token"])

    def app(self) -> web.Application:
        """Return the application, to be served with TLS."""
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[self._guard])
        app.router.add_route("*", "/{path:.*}", self._answer)
        app.on_shutdown.append(self._end_watches)
        return app

    async def _end_watches(self, _: web.Application) -> None:
        for subscription in list(self._watches):
            subscription.close()

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Check token and rights, turn every failure into a ``Status``, count the answer."""
        asked = requested(request.method, request.match_info["path"].rstrip("/"), request.query)
        try:
            self._authorize(request, asked)
            answer = await handler(request)
        except ApiError as error:
            answer = _json(error.body(), error.status)
        except web.HTTPException as error:
            answer = _json(ApiError(error.status, "", error.reason).body(), error.status)
        except Exception as error:
            log.exception("%s %s", request.method, request.path)
            text = f"Internal error occurred: {type(error).__name__}"
            answer = _json(ApiError(500, "InternalError", text).body(), 500)
        self._requests.add(asked.verb, answer.status)
        return answer

    def _authorize(self, request: web.Request, asked: Attributes) -> None:
        """Find out who asks, and check their rights; without a token they read public paths."""
        path, given = request.match_info["path"].rstrip("/"), request.headers.get("Authorization")
        if not given and health.is_open(path):
            _USER.set(ANONYMOUS)
            return
        user = self._users.authenticate(given or "")
        if other := impersonated(request.headers):
            for needed in other[1]:
                self._authorizer.check(user, needed)
            user = other[0]
        _USER.set(user)
        self._authorizer.check(user, asked)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"].strip("/")
        if path == "version":
            return _json(VERSION)
        if path == "metrics":
            return web.Response(text=self._requests.text())
        if health.is_health(path):
            return web.Response(text=health.report(path, request.query))
        if request.method == "GET" and (found := await self._described(request, path)):
            return found
        if request.method == "POST" and (review := review_at(path)):
            answer = review.answer(await _body(request), _USER.get(), self._authorizer)
            return _json(answer, 201)
        resource = parse_path(self._store.kinds, path)
        if request.method == "GET":
            return await self._read(request, resource)
        return await self._write(request, resource)

    async def _described(self, request: web.Request, path: str) -> web.Response | None:
        if path == "openapi/v2":
            if "protobuf" not in request.headers.get("Accept", ""):
                raise ApiError(406, "NotAcceptable", "OpenAPI v2 is empty here: read /openapi/v3")
            return web.Response(body=OPENAPI_V2, headers={"Content-Type": OPENAPI_V2_TYPE})
        if path == "openapi/v3":
            return _json(self._discovery.openapi_index())
        if path.startswith("openapi/v3/"):
            root = path.removeprefix("openapi/v3/")
            text = await asyncio.to_thread(self._discovery.openapi, root)
            return web.Response(body=text, content_type="application/json") if text else None
        found = self._discovery.document(path, request.host)
        return _json(found) if found else None

    # Reading

    async def _read(self, request: web.Request, resource: ResourcePath) -> web.StreamResponse:
        if resource.subresource == "proxy":
            name, _, port = resource.name.removeprefix("http:").partition(":")
            obj = self._store.get(resource.kind, resource.namespace, name)
            return await proxy.passed_on(request, obj, port, self._dial)
        query = Query.parse(request.query, resource)
        if resource.subresource == "log":
            pod = self._store.get(resource.kind, resource.namespace, resource.name)
            return await stream_logs(request, pod, self._logs)
        if query.watch:
            return await self._watch(request, resource, query)
        table = representation.wants_table(request.headers.get("Accept", ""))
        include = request.query.get("includeObject", "Metadata")
        kind = resource.kind
        if resource.name:
            items = [self._store.get(kind, resource.namespace, resource.name)]
            if resource.subresource == "scale":
                kind, items = SCALE, [scale_of(items[0])]
            metadata = {"resourceVersion": items[0]["metadata"]["resourceVersion"]}
        else:
            items, metadata = page(self._store, resource, query)
        if table:
            now = utc_now()
            return _json(representation.as_table(kind, items, metadata, now=now, include=include))
        if resource.name:
            return _json(items[0])
        return _json(representation.as_list(kind, items, metadata))

    async def _watch(
        self, request: web.Request, resource: ResourcePath, query: Query
    ) -> web.StreamResponse:
        include = request.query.get("includeObject", "Metadata")
        table = representation.wants_table(request.headers.get("Accept", ""))

        def render(obj: Object) -> Object:
            if not table:
                return obj
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            return representation.as_table(
                resource.kind, [obj], metadata, now=utc_now(), include=include
            )

        parameters = watch.Watch(
            kind=resource.kind,
            selects=query.selects,
            render=render,
            since=int(query.resource_version) if query.resource_version not in ("", "0") else None,
            timeout_s=query.timeout_s or _WATCH_SECONDS,
            bookmarks=query.bookmarks,
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        subscription = self._store.subscribe({resource.kind.name}, most_bytes=_UNSENT_BYTES)
        self._watches.add(subscription)
        try:
            async for line in watch.lines(self._store, parameters, subscription):
                await response.write(line)
        finally:
            self._watches.discard(subscription)
            subscription.close()
        return response

    # Writing

    async def _write(self, request: web.Request, resource: ResourcePath) -> web.StreamResponse:
        if request.method == "DELETE":
            return await self._delete(request, resource)
        verb = _VERBS.get(request.method, "")
        if resource.subresource == "token" and verb == "create":
            account = self._store.get(resource.kind, resource.namespace, resource.name)
            return _json(self._users.issue(account, await _body(request)), 201)
        writable = resource.subresource not in READ_ONLY and bool(resource.name) is (
            verb != "create"
        )
        if verb not in resource.kind.verbs or not writable:
            raise _not_allowed()
        await built_in_kinds.ready(resource.kind)
        content = await _body(request)
        call = _write_request(request, resource)
        if verb == "patch":
            self._check_creation(request, resource)
            return _written(self._writer.patch(call, request.content_type, content))
        write = self._writer.create if verb == "create" else self._writer.replace
        return _written(write(call, content))

    def _check_creation(self, request: web.Request, resource: ResourcePath) -> None:
        """Check the right to create what an apply will create."""
        where = (resource.kind, resource.namespace, resource.name)
        if request.content_type == APPLY and self._store.find(*where) is None:
            asked = requested(request.method, request.match_info["path"], request.query)
            self._authorizer.check(_USER.get(), replace(asked, verb="create"))

    async def _delete(self, request: web.Request, resource: ResourcePath) -> web.StreamResponse:
        verb = "delete" if resource.name else "deletecollection"
        if verb not in resource.kind.verbs or resource.subresource:
            raise _not_allowed()
        options = await _delete_options(request)
        call = _write_request(request, resource, dry_run=bool(options.get("dryRun")))
        if resource.name:
            return _written(self._writer.delete(call, options))
        query = Query.parse(request.query, resource)
        items, metadata = page(self._store, resource, query)
        for obj in items:
            space, name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
            one = ResourcePath(resource.kind, space, name)
            self._writer.delete(replace(call, path=one), options)
        return _json(representation.as_list(resource.kind, items, metadata))


def _write_request(
    request: web.Request, resource: ResourcePath, *, dry_run: bool = False
) -> WriteRequest:
    query = request.query
    _one_of(f"{_OPTIONS.get(request.method, 'Delete')}Options", "dryRun", query.get("dryRun"), _DRY)
    agent = request.headers.get("User-Agent", "").partition("/")[0][:_MANAGER_LENGTH]
    agent = "".join(letter for letter in agent if letter.isprintable())
    # An apply must name its manager; any other write defaults to the program's name.
    default = "" if request.content_type == APPLY else agent or "unknown"
    if len(manager := query.get("fieldManager", "")) > _MANAGER_LENGTH or not manager.isprintable():
        rule = f"must be printable, at most {_MANAGER_LENGTH} characters"
        error = invalid("fieldManager", manager[:_MANAGER_LENGTH], rule)
        kind = f"{_OPTIONS.get(request.method, 'Delete')}Options"
        raise ApiError(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {error}')
    return WriteRequest(
        path=resource,
        user=_USER.get().name,
        manager=manager or default,
        dry_run=dry_run or bool(query.get("dryRun")),
        force=query.get("force", "").lower() in ("true", "1"),
        field_validation=query.get("fieldValidation") or "Warn",
    )


async def _body(request: web.Request) -> Any:
    async with bodies.body(request, most=_MAX_BODY) as content:
        return await decode(content, request.content_type)


async def _delete_options(request: web.Request) -> Object:
    """Read the body and the parameters of a DELETE.

    Raises:
        ApiError: 400, a value cannot be read; 422, a value is not supported.
    """
    options = (await _body(request) if request.can_read_body else None) or {}
    if not isinstance(options, dict) or not isinstance(options.get("preconditions") or {}, dict):
        raise bad_request("the object provided is unrecognized: it must be DeleteOptions")
    for name in ("gracePeriodSeconds", "propagationPolicy"):
        if name in request.query:
            options[name] = request.query[name]
    _one_of("DeleteOptions", "propagationPolicy", options.get("propagationPolicy"), _PROPAGATION)
    if options.get("gracePeriodSeconds") is not None:
        options["gracePeriodSeconds"] = _grace(options["gracePeriodSeconds"])
    return options


def _one_of(options: str, field: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value and value not in allowed:
        error = unsupported(field, value, allowed)
        raise ApiError(422, "Invalid", f'{options}.meta.k8s.io "" is invalid: {error}')


def _grace(value: Any) -> int:
    """Read a grace period; a negative one is no grace."""
    if isinstance(value, str):
        value = integer(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise bad_request(
            "json: cannot unmarshal into Go struct field DeleteOptions.gracePeriodSeconds of type "
            "int64"
        )
    return max(0, value)


def _not_allowed() -> ApiError:
    text = "the server does not allow this method on the requested resource"
    return ApiError(405, "MethodNotAllowed", text)


def _json(body: Object, status: int = 200) -> web.Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    # A refusal may quote a header that is not UTF-8.
    content = text.encode("utf-8", "replace")
    return web.Response(body=content, status=status, content_type="application/json")


def _written(done: WriteResult) -> web.Response:
    response = _json(done.body, done.status)
    # As the real server: no control characters, and not more than a client reads.
    for warning in done.warnings[:_WARNINGS]:
        plain = "".join(letter for letter in warning[:_WARNING_LENGTH] if letter.isprintable())
        quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response
