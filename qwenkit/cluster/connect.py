"""Make an API client for a named context of the kubeconfigs; the current one is no default."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwenkit.cluster.transport import Transport
from qwenkit.errors import Forbidden, InvalidValue, NotFound
from qwenkit.loopback import is_loopback
from qwenkit.private_files import home
from qwenkit.untrusted.files import read_text
from qwenkit.untrusted.parsing import parse_yaml

SANDBOX = "sandbox"
_IN_CLUSTER = "in-cluster"
_MOST_BYTES = 2**22
START_SANDBOX = 'qwenkit sandbox up --detach, then: eval "$(qwenkit sandbox env)"'


def _kubeconfig_paths() -> list[Path]:
    """Return the files that kubectl reads: those of ``KUBECONFIG``, else ``~/.kube/config``."""
    named = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [Path(part).expanduser() for part in named] or [home() / ".kube" / "config"]


def api_client(context: str) -> Any:
    """Return an API client for one context; sends nothing yet.

    Several files are merged as kubectl merges them: the first file with a name wins; a missing
    file is skipped. ``in-cluster`` is the service account of the pod that this process runs in.

    Raises:
        NotFound: no kubeconfig, or no such context in any.
        InvalidValue: a file is not a usable kubeconfig.
        Forbidden: the context's credential plugin returns no credentials.
    """
    from kubernetes import client

    configuration = client.Configuration()
    if context == _IN_CLUSTER and not os.environ.get("KUBECONFIG"):
        _load_in_cluster(configuration)
    else:
        _load(_kubeconfig_paths(), context, configuration)
    return client.ApiClient(configuration)


def connection(context: str) -> Transport:
    """Return the connections to one context; sends nothing yet.

    Raises:
        QwenkitError: as ``api_client``.
    """
    return Transport(api_client(context))


def _load(paths: Sequence[Path], context: str, configuration: Any) -> None:
    from kubernetes import config
    from yaml import YAMLError

    present = [path for path in paths if path.exists()] or list(paths)
    files = [_read(path) for path in present]
    where = ", ".join(map(str, present))
    known = _named(files, "contexts")
    if context not in known:
        raise NotFound(
            f"context {context!r} is not in {where}",
            f"it has these contexts: {', '.join(known) or 'none'}",
            START_SANDBOX
            if context == SANDBOX
            else "name one of them with --context, or set KUBECONFIG to the file that has it",
            kind="Context",
            name=context,
        )
    load: Any = config.load_kube_config
    try:
        load(os.pathsep.join(map(str, present)), context, configuration, persist_config=False)
    except (
        config.ConfigException,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        YAMLError,
    ) as error:
        # From "{" on, the client's message quotes an entry of the file, keys and tokens included.
        why = str(error).partition("{")[0].strip("/ ")
        raise InvalidValue("KUBECONFIG", where, f"context {context!r}: {why}") from None
    entry = known[context].get("context") or {}
    user = _named(files, "users").get(str(entry.get("user")), {})
    _require_credentials(context, user, configuration)
    cluster = _named(files, "clusters").get(str(entry.get("cluster")), {}).get("cluster") or {}
    if not str(cluster.get("server")).startswith(("http://", "https://")):
        rule = f"the cluster of context {context!r} needs a server such as https://host:6443"
        raise InvalidValue("KUBECONFIG", where, rule)
    if is_loopback(configuration.host) and "proxy-url" not in cluster:
        configuration.proxy = None


def _load_in_cluster(configuration: Any) -> None:
    from kubernetes import config

    load: Any = config.load_incluster_config
    try:
        load(client_configuration=configuration)
    except config.ConfigException as error:
        fix = "this context works only in a pod; elsewhere name a context of your kubeconfig"
        raise NotFound("there is no service account here", str(error), fix) from None


def _require_credentials(context: str, user: dict[str, Any], configuration: Any) -> None:
    """Raise if a credential plugin failed: the client only logs it and sends no credentials."""
    plugin = (user.get("user") or {}).get("exec")
    if plugin and not configuration.api_key and not configuration.cert_file:
        raise Forbidden(
            f"context {context!r}: its credential plugin gave no credentials",
            f"{plugin.get('command')} failed or is not installed",
            f"log in again, then check: kubectl --context {context} get --raw /version",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = parse_yaml(read_text(path, most=_MOST_BYTES), aliases=True)
    except OSError as error:
        raise NotFound(
            f"kubeconfig {path} cannot be read",
            error.strerror or str(error),
            f"set KUBECONFIG; for the sandbox: {START_SANDBOX}",
        ) from error
    except ValueError:
        raise InvalidValue("KUBECONFIG", str(path), "must be a YAML file") from None
    if not isinstance(loaded, dict):
        raise InvalidValue("KUBECONFIG", str(path), "must be a kubeconfig: a mapping with contexts")
    return loaded


def _named(files: Sequence[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """Return the entries of one kind by name; the first file wins."""
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        entries = file.get(kind)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and "name" in entry:
                found.setdefault(str(entry["name"]), entry)
    return found
