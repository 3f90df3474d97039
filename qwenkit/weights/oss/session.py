"""How are requests to the bucket sent? By oss2's session, without its slowest steps."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import oss2
import requests
from oss2.exceptions import RequestError
from requests.adapters import HTTPAdapter
from requests.utils import super_len

from qwenkit.loopback import is_loopback

_CONNECTIONS = 32  # kept open; more than threads that use a bucket


class Session(oss2.Session):  # type: ignore[misc]
    """Sends requests that oss2 has prepared and signed.

    ``requests`` would prepare every request again: merge cookies, hooks and settings, look for
    proxies and ``.netrc``. For a small file that is more work than everything else, and the result
    is the same for one address, so it is done once here.
    """

    def __init__(self, address: str) -> None:
        """Use the environment's proxies and certificates for ``address``."""
        self._adapter = HTTPAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS)
        super().__init__(adapter=self._adapter)
        self.session.trust_env = not is_loopback(address)
        self._settings = self.session.merge_environment_settings(address, {}, True, None, None)

    def do_request(self, req: Any, timeout: Any) -> oss2.http.Response:
        """Send a request; the caller reads the answer's body.

        Raises:
            RequestError: no answer came.
        """
        prepared = requests.PreparedRequest()
        prepared.method, prepared.body = req.method, req.data
        prepared.url = f"{req.url}?{urlencode(req.params)}" if req.params else req.url
        # oss2 sets None where requests should add nothing of its own.
        prepared.headers = req.headers
        for name in [name for name, value in req.headers.items() if value is None]:
            del prepared.headers[name]
        if req.method not in ("GET", "HEAD"):
            prepared.headers["Content-Length"] = str(
                super_len(req.data or b"")  # type: ignore[no-untyped-call]
            )
        try:
            answer = self._adapter.send(prepared, timeout=timeout, **self._settings)
        except requests.RequestException as error:
            raise RequestError(error) from error
        return oss2.http.Response(answer)
