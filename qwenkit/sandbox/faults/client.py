"""Inject faults into a running sandbox from another process."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qwenkit.errors import InvalidValue, NotFound, SandboxError
from qwenkit.sandbox import state_files

_TIMEOUT_S = 30


def call(root: Path, method: str, spec: dict[str, Any] | None = None) -> Any:
    """Send a request to the sandbox under ``root``; return its answer.

    Raises:
        SandboxError: no sandbox runs there, or it does not answer.
        InvalidValue: the fault is not valid.
        NotFound: there is no such pod or file.
    """
    state_files.running(root)
    try:
        address = json.loads((root / state_files.FAULTS_ADDRESS).read_text("utf-8"))
        status, answer = _send(address, method, json.dumps(spec) if spec else None)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SandboxError(
            f"the sandbox under {root} does not answer about its faults",
            str(error) or type(error).__name__,
            "qwenkit sandbox down, then up",
        ) from error
    if status == 400:
        raise InvalidValue(answer["name"], answer["value"], answer["rule"], answer["fix"])
    if status == 404:
        raise NotFound(answer["what"], answer["why"], answer["fix"])
    if status != 200:
        raise SandboxError(f"the sandbox under {root} refused", f"HTTP {status}: {answer}")
    return answer


def _send(address: dict[str, str], method: str, body: str | None) -> tuple[int, Any]:
    # Straight to loopback, past every proxy variable.
    where = urlsplit(address["url"])
    connection = http.client.HTTPConnection(where.netloc, timeout=_TIMEOUT_S)
    headers = {"Authorization": f"Bearer {address['token']}"}
    try:
        connection.request(method, "/faults", body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
