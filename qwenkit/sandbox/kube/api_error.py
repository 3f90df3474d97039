"""Refusals of the Kubernetes API: exceptions with the ``Status`` body that is sent.

The words are the API server's, because clients parse them and people know them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwenkit.admission.field_errors import FieldError, joined
from qwenkit.errors import QwenkitError

if TYPE_CHECKING:
    from qwenkit.sandbox.kube.kinds import ResourceKind


_MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


class ApiError(QwenkitError):
    """A refusal of the Kubernetes API, with the HTTP status, reason and message of its Status."""

    def __init__(
        self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.status, self.reason, self.message = status, reason, message
        self.details = dict(details or {})

    def body(self) -> dict[str, Any]:
        """Return the ``Status`` object that the API answers with."""
        body = {"message": self.message, "reason": self.reason, "code": self.status}
        return _status("Failure", **body) | ({"details": self.details} if self.details else {})


def success(kind: ResourceKind, name: str, uid: str) -> dict[str, Any]:
    """Return the ``Status`` that answers a deletion."""
    details = {**_details(kind, name), "uid": uid}
    return _status("Success", details=details)


def _status(status: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status, **fields}


def _details(kind: ResourceKind, name: str, *, use_kind: bool = False) -> dict[str, Any]:
    details = {"name": name, "kind": kind.kind if use_kind else kind.plural}
    return {**details, "group": kind.group} if kind.group else details


def not_found(kind: ResourceKind, name: str) -> ApiError:
    """404: no object has this name."""
    message = f'{kind.resource} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(kind, name))


def no_such_resource() -> ApiError:
    """404: the API does not serve this path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(kind: ResourceKind, name: str) -> ApiError:
    """409: an object of this name exists."""
    message = f'{kind.resource} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(kind, name))


def precondition_failed(
    kind: ResourceKind, name: str, field: str, wanted: str, found: str
) -> ApiError:
    """409: the object has another ``uid`` or ``resourceVersion``."""
    label = "UID" if field == "uid" else "ResourceVersion"
    why = f"{label} in precondition: {wanted}, {label} in object meta: {found}"
    return conflict(kind, name, f"Precondition failed: {why}")


def conflict(kind: ResourceKind, name: str, why: str = _MODIFIED) -> ApiError:
    """409: the ``resourceVersion`` is stale, or what ``why`` says."""
    message = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(kind, name))


def invalid(kind: ResourceKind, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422: fields break rules."""
    details = _details(kind, name, use_kind=True)
    details["causes"] = [vars(error) for error in errors]
    subject = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    return ApiError(422, "Invalid", f'{subject} "{name}" is invalid: {joined(errors)}', details)


def forbidden(kind: ResourceKind, name: str, why: str) -> ApiError:
    """403: admission forbids it."""
    message = f'{kind.resource} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(kind, name))


def bad_request(message: str) -> ApiError:
    """400: the request cannot be read."""
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    """410: the history no longer reaches back to the requested ``resourceVersion``."""
    return ApiError(410, "Expired", message)


def too_large(limit: int) -> ApiError:
    """413: the request, or the object that it makes, has more bytes than ``limit``."""
    text = f"Request entity too large: limit is {limit}"
    return ApiError(413, "RequestEntityTooLarge", text)
