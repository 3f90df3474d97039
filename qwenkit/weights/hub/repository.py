"""Open the source that the user names: ``modelscope:``, ``hf:`` or a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from qwenkit.errors import InvalidValue
from qwenkit.weights.hub.folder import Folder
from qwenkit.weights.hub.huggingface import HuggingFace
from qwenkit.weights.hub.listing import Repository, Source
from qwenkit.weights.hub.modelscope import ModelScope

_HUBS: dict[str, tuple[Literal["modelscope", "hf"], str]] = {
    "modelscope": ("modelscope", "master"),
    "hf": ("hf", "main"),
}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w][\w./-]*")
_FORMS = "modelscope:owner/name[@revision], hf:owner/name[@revision] or a folder"


def parse_source(text: str) -> Source:
    """Read a source as the user writes it.

    Raises:
        InvalidValue: it has none of the three forms.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme in _HUBS:
        kind, default = _HUBS[scheme]
        name, at, revision = rest.partition("@")
        if not _REPOSITORY.fullmatch(name) or (at and not _REVISION.fullmatch(revision)):
            raise InvalidValue("source", text, f"must be {_FORMS}")
        return Source(kind, name, revision or default)
    if not text.strip() or (re.fullmatch(r"[a-z]+", scheme) and colon and not Path(text).exists()):
        raise InvalidValue("source", text, f"must be {_FORMS}")
    return Source("folder", text)


def open_source(source: str, *, modelscope_endpoint: str = "", hf_endpoint: str = "") -> Repository:
    """Open a source; ``Weights.source`` does it with the endpoints of the settings.

    No request is sent yet. Tokens come from ``MODELSCOPE_API_TOKEN`` and ``HF_TOKEN``. A hub's
    endpoint is needed only for its own sources.

    Raises:
        InvalidValue: the source has none of the known forms, or the hub's address is empty.
        NotFound: the folder does not exist.
    """
    parsed = parse_source(source)
    if parsed.kind == "modelscope":
        return ModelScope(parsed, endpoint=modelscope_endpoint)
    if parsed.kind == "hf":
        return HuggingFace(parsed, endpoint=hf_endpoint)
    return Folder(parsed)
