"""How a load's requests reach the gateway."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from qwenkit.inference import failures
from qwenkit.inference.client import Server
from qwenkit.inference.raw import CONNECT_S, api_key
from qwenkit.loopback import is_loopback


def connector(server: Server) -> Callable[[], Any]:
    """Return a function that creates an asynchronous HTTP client, one per connection of a load.

    Raises:
        QwenkitError: no client can be created.
    """
    import openai

    try:
        connect = partial(
            openai.DefaultAsyncHttpxClient,
            base_url=server.gateway,
            headers={
                "Host": server.host,
                "Authorization": f"Bearer {api_key()}",
                "Content-Type": "application/json",
            },
            timeout=openai.Timeout(server.timeout_s, connect=min(CONNECT_S, server.timeout_s)),
            trust_env=not is_loopback(server.gateway),
            follow_redirects=False,
            # Shared, because reading the machine's certificates takes longer than most requests.
            verify=ssl.create_default_context(),
        )
        connect()
    except (ImportError, OSError, ValueError) as error:
        raise failures.no_client(server.gateway, error) from None
    return connect
