"""Inject faults into a running sandbox from another process."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qwenkit.errors import InvalidValue, NotFound, SandboxError
from qwenkit.sandbox import state_files

_TIMEOUT_S = 30


def call(root: Path, method: str, spec: dict[str, Any] | None = None) -> Any:
    """Send a request about faults to the sandbox under ``root``; return its answer.

    Raises:
        SandboxError: no sandbox runs there, or it does not answer.
        InvalidValue: the fault is not valid.
        NotFound: there is no such pod or file.
    """
    with _sent(root, method, "/faults", json.dumps(spec) if spec else None) as answer:
        return answer


@contextmanager
def time_scale(root: Path, scale: float) -> Iterator[float]:
    """Let the node's time run ``scale`` times as fast for the length of the block.

    It ends with this process, even if that is killed. Yields the time scale before.

    Raises:
        SandboxError: no sandbox runs there, or it does not answer.
        InvalidValue: the scale is not valid.
    """
    with _sent(root, "POST", "/time-scale", json.dumps(scale)) as answer:
        yield float(answer["before"])


@contextmanager
def _sent(root: Path, method: str, path: str, body: str | None) -> Iterator[Any]:
    """Send a request; yields its answer, a line of JSON, while the connection is open."""
    state_files.running(root)
    try:
        address = json.loads((root / state_files.FAULTS_ADDRESS).read_text("utf-8"))
        # Straight to loopback, past every proxy variable.
        where = urlsplit(address["url"])
        connection = http.client.HTTPConnection(where.netloc, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {address['token']}"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = json.loads(response.readline())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SandboxError(
            f"the sandbox under {root} does not answer on its control port",
            str(error) or type(error).__name__,
            "qwenkit sandbox down, then up",
        ) from error
    try:
        if response.status == 400:
            raise InvalidValue(answer["name"], answer["value"], answer["rule"], answer["fix"])
        if response.status == 404:
            raise NotFound(answer["what"], answer["why"], answer["fix"])
        if response.status != 200:
            why = f"HTTP {response.status}: {answer}"
            raise SandboxError(
                f"the sandbox under {root} refused", why, f"read its log: {root / 'log'}"
            )
        yield answer
    finally:
        connection.close()
