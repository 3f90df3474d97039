"""The bodies of chat and completion requests: vLLM 0.4.1's fields, types and defaults.

Two fields are of newer releases alone: ``stream_options`` and ``max_completion_tokens``.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qwenkit.errors import InvalidValue

Long = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class RequestBody(BaseModel):
    """The fields of chats and completions. vLLM 0.4.1 ignores fields that it does not know."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    model: str
    n: int = 1
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: Long | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: str | list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    stream: bool = False
    stream_options: dict[str, Any] = {}
    max_completion_tokens: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        required = {name for name, one in cls.model_fields.items() if one.is_required()}
        return {name: one for name, one in data.items() if one is not None or name in required}


class ChatBody(RequestBody):
    """The body of ``/v1/chat/completions``."""

    messages: list[dict[str, str]]
    temperature: float = 0.7
    logprobs: bool = False
    top_logprobs: int | None = None


class CompletionBody(RequestBody):
    """The body of ``/v1/completions``."""

    prompt: list[int] | list[list[int]] | str | list[str]
    logprobs: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_max_tokens(cls, data: Any) -> Any:
        # An explicit null means the rest of the context, as in a chat.
        return {"max_tokens": 16, **data} if isinstance(data, dict) else data


BodyT = TypeVar("BodyT", bound=RequestBody)


def refused(message: str) -> InvalidValue:
    """Return the error that vLLM answers with 400; ``rule`` is its message."""
    return InvalidValue("request", None, message)


def parse(raw: bytes, kind: type[BodyT]) -> BodyT:
    """Return a request's body.

    Raises:
        InvalidValue: it is not JSON, or a field is missing or of the wrong type, in pydantic's
            words as FastAPI gives them.
    """
    try:
        body = json.loads(raw)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair cannot be answered
    except (ValueError, RecursionError) as error:
        at, why = getattr(error, "pos", 0), getattr(error, "msg", "JSON decode error")
        found: dict[str, Any] = {"type": "json_invalid", "loc": ("body", at)}
        found |= {"msg": "JSON decode error", "input": {}, "ctx": {"error": why}}
        raise refused(str([found])) from error
    try:
        return kind.model_validate(body, from_attributes=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise refused(str([one | {"loc": ("body", *one["loc"])} for one in errors])) from error
