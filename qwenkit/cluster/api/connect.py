"""Make the connections to a named context of the kubeconfigs; the current one is never implied."""

from __future__ import annotations

import logging
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from qwenkit.cluster.api.kubeconfig import (
    SANDBOX,
    START_SANDBOX,
    KubeContext,
    context_names,
    read_context,
)
from qwenkit.cluster.api.transport import Transport
from qwenkit.errors import Forbidden, NotFound, QwenkitError
from qwenkit.loopback import is_loopback
from qwenkit.private_files import home

__all__ = ["SANDBOX", "START_SANDBOX", "connection"]

_IN_CLUSTER = "in-cluster"
_LOADING = Lock()  # the client library keeps its temporary files in one table
_READ_AGAIN_S = 10.0  # client-go reads a token's file again as often


def connection(context: str) -> Transport:
    """Return the connections to one context; sends nothing yet.

    ``in-cluster`` is the service account of the pod that this process runs in.

    Raises:
        NotFound: no kubeconfig, or no such context in any.
        InvalidValue: a file is not a usable kubeconfig.
        Forbidden: the context's credential plugin returns no credentials.
    """
    from kubernetes import client
    from urllib3.exceptions import HTTPError

    configuration = client.Configuration()
    if context == _IN_CLUSTER and not os.environ.get("KUBECONFIG"):
        _load_in_cluster(configuration)
        return Transport(client.ApiClient(configuration))
    found = read_context(_kubeconfig_paths(), context)
    with _LOADING, _without_files():
        _load(found, configuration)
        try:
            api = client.ApiClient(configuration)
            _take_in(api.rest_client.pool_manager.connection_pool_kw)
        except (HTTPError, ImportError, OSError, ValueError) as error:
            fix = "check the proxy-url or variable, the certificates and the key"
            if isinstance(error, ImportError):
                fix = "a SOCKS proxy (ALL_PROXY, HTTPS_PROXY): pip install pysocks, or NO_PROXY"
            raise found.refuse(f"its entries cannot be used: {error}", fix) from None
    return Transport(api, found.impersonation())


def contexts() -> list[str]:
    """Return the contexts of the kubeconfigs, empty if there is none that can be read."""
    with suppress(QwenkitError):
        return context_names([path for path in _kubeconfig_paths() if path.exists()])
    return []


def cluster_entry(context: str) -> dict[str, Any]:
    """Return the cluster of a context for a kubeconfig of somebody else: no path is in it.

    Raises:
        NotFound: no such context.
        InvalidValue: the context or its authority's file is not usable.
    """
    found = read_context(_kubeconfig_paths(), context)
    entry = dict(found.cluster)
    if path := entry.pop("certificate-authority", ""):
        try:
            authority = Path(path).read_bytes()
        except OSError as error:
            raise found.refuse(f"its certificate-authority cannot be read: {error}") from None
        entry["certificate-authority-data"] = b64encode(authority).decode()
    return entry


def _kubeconfig_paths() -> list[Path]:
    """Return the files that kubectl reads: those of ``KUBECONFIG``, else ``~/.kube/config``."""
    named = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [Path(os.path.expanduser(part)) for part in named] or [home() / ".kube" / "config"]


def _load(context: KubeContext, configuration: Any) -> None:
    from kubernetes import config

    user = dict(context.user)
    from_file = user.pop("tokenFile", None)
    load: Any = config.load_kube_config_from_dict
    try:
        given = KubeContext(context.name, context.cluster, user, context.where).as_config()
        with _unlogged():
            load(given, context.name, configuration, persist_config=False)
    except (
        config.ConfigException,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OSError,
    ) as error:
        # From "{" on, the client's message quotes an entry of the file, keys and tokens included.
        raise context.refuse(str(error).partition("{")[0].strip("/ ")) from None
    if from_file:
        configuration.refresh_api_key_hook = _token_file(context, Path(from_file))
        configuration.refresh_api_key_hook(configuration)
    _require_credentials(context, configuration)
    if context.cluster.get("proxy-url"):
        configuration.no_proxy = None  # the file names the proxy for this cluster
    elif is_loopback(configuration.host):
        configuration.proxy = None


@contextmanager
def _without_files() -> Iterator[None]:
    """Remove the files that the client library makes of a kubeconfig's certificates and keys.

    It does so only at the end of the process; one that is killed would leave a key there. The
    files of other users of the library in this process stay.
    """
    from kubernetes.config import kube_config

    library: Any = kube_config
    others, library._temp_files = library._temp_files, {}
    try:
        yield
    finally:
        library._cleanup_temp_files()
        library._temp_files = others


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep the client from logging what a credential plugin wrote: it may hold a token."""
    root = logging.getLogger()

    def is_others(record: logging.LogRecord) -> bool:
        return record.module != "kube_config"

    root.addFilter(is_others)
    try:
        yield
    finally:
        root.removeFilter(is_others)


def _take_in(pool: dict[str, Any]) -> None:
    """Replace the files in the arguments of a connection by what they hold."""
    from urllib3.util.ssl_ import create_urllib3_context

    if certificate := pool.pop("cert_file", None):
        pool["ssl_context"] = create_urllib3_context(cert_reqs=pool["cert_reqs"])
        pool["ssl_context"].load_cert_chain(certificate, pool.pop("key_file", None))
    if authority := pool.pop("ca_certs", None):
        pool["ca_cert_data"] = Path(authority).read_text()


def _token_file(context: KubeContext, path: Path) -> Callable[[Any], None]:
    """Return a hook that sets the token of a file, and reads it again when it is older."""
    read_at = float("-inf")

    def refresh(configuration: Any) -> None:
        nonlocal read_at
        if time.monotonic() - read_at < _READ_AGAIN_S:
            return
        try:
            token = path.read_text("utf-8").strip()
            if not token:
                raise ValueError("it is empty")
        except (OSError, ValueError) as error:
            # As in client-go, the last token that was read holds, else the one in the file's place.
            if not configuration.api_key:
                raise context.refuse(f"its tokenFile cannot be read: {error}") from None
        else:
            configuration.api_key["BearerToken"] = f"Bearer {token}"
        read_at = time.monotonic()

    return refresh


def _load_in_cluster(configuration: Any) -> None:
    from kubernetes import config

    load: Any = config.load_incluster_config
    try:
        load(client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        fix = "this context works only in a pod; elsewhere name a context of your kubeconfig"
        raise NotFound("there is no service account here", str(error), fix) from None


def _require_credentials(context: KubeContext, configuration: Any) -> None:
    """Raise if a credential plugin failed: the client only logs it and sends no credentials."""
    plugin = context.user.get("exec")
    if plugin and not configuration.api_key and not configuration.cert_file:
        again = f"log in again, then check: kubectl --context {context.name} get --raw /version"
        raise Forbidden(
            f"context {context.name!r}: its credential plugin gave no credentials",
            f"{plugin.get('command')} failed or is not installed",
            plugin.get("installHint") or again,
        )
