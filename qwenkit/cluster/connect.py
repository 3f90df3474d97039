"""From a kubeconfig and a context's name to an API client; never the current context unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from qwenkit.errors import InvalidValue, NotFound
from qwenkit.loopback import is_loopback

SANDBOX = "sandbox"
START_SANDBOX = 'qwenkit sandbox up --detach, then: eval "$(qwenkit sandbox env)"'


def api_client(path: Path, context: str) -> Any:
    """Return an API client for one context of a kubeconfig file; sends nothing yet.

    Raises:
        NotFound: no such file, or no such context in it.
        InvalidValue: the file is no usable kubeconfig.
    """
    from kubernetes import client, config
    from urllib3.util import Retry

    known = contexts(path)
    if context not in known:
        raise NotFound(
            f"context {context!r} is not in {path}",
            f"the contexts there are: {', '.join(known) or 'none'}",
            _fix(context),
            kind="Context",
            name=context,
        )
    configuration = client.Configuration()
    load: Any = config.load_kube_config
    try:
        load(str(path), context, configuration, persist_config=False)
    except config.ConfigException as error:
        raise InvalidValue("KUBECONFIG", str(path), f"context {context!r}: {error}") from error
    # Only reads are repeated: urllib3 leaves PATCH and POST out by default.
    configuration.retries = Retry(
        total=3, backoff_factor=0.2, status_forcelist=(429, 503), raise_on_status=False
    )
    if is_loopback(configuration.host):
        configuration.proxy = None
    return client.ApiClient(configuration)


def contexts(path: Path) -> list[str]:
    """Return the names of the contexts in a kubeconfig file.

    Raises:
        NotFound: the file does not exist or cannot be read.
        InvalidValue: it is not a kubeconfig.
    """
    try:
        loaded = YAML(typ="safe").load(path.read_text("utf-8"))
    except OSError as error:
        raise NotFound(
            f"kubeconfig {path} cannot be read",
            error.strerror or str(error),
            f"set KUBECONFIG; for the sandbox: {START_SANDBOX}",
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InvalidValue("KUBECONFIG", str(path), "must be a YAML file") from error
    if not isinstance(loaded, dict):
        raise InvalidValue("KUBECONFIG", str(path), "must be a kubeconfig: a mapping with contexts")
    return [
        str(c["name"]) for c in loaded.get("contexts") or [] if isinstance(c, dict) and "name" in c
    ]


def _fix(context: str) -> str:
    if context == SANDBOX:
        return START_SANDBOX
    return "name one of them with --context, or set KUBECONFIG to the file that has it"
