"""The Kubernetes objects of the parameters, as YAML to read, paste and apply.

``render`` returns the documentation page's objects and what the page lacks; ``as_documented``
returns the page's own Service, nothing added. No rendered document holds a key: only
``with_keys`` adds keys.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from ruamel.yaml.comments import CommentedMap

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.credentials import Credentials
from qwenkit.manifests import service
from qwenkit.manifests.command import as_documented as documented_command
from qwenkit.manifests.scaling import SETTING_OF, scaling_annotations
from qwenkit.manifests.storage import filled, ours, secret_document, storage
from qwenkit.manifests.template import Scalar, plain
from qwenkit.settings import Settings

_ON_THE_PAGE = [PREFIX + key for key in ("metric", "target", "max-scale")]


def render(settings: Settings) -> list[CommentedMap]:
    """Render the objects of the storage and, at the end, the Service.

    With OSS: Secret (without keys; none with a RAM role), PersistentVolume and claim.
    """
    return [*storage(settings), _service(settings)]


def as_documented(settings: Settings) -> CommentedMap:
    """Render the documentation page's own Service, nothing added."""
    given = scaling_annotations(settings)
    scaling: dict[str, Scalar] = {SETTING_OF[key]: given[key] for key in _ON_THE_PAGE}
    same = ("service", "namespace", "volume", "image", "mount_path", "cpu_limit", "cpu_request")
    values = {name: getattr(settings, name) for name in (*same, "memory_limit", "memory_request")}
    command = {"command_line": documented_command(settings), "gpu_count": str(settings.gpu_count)}
    return filled("service-as-documented.yaml", values | command | scaling)


def _service(settings: Settings) -> CommentedMap:
    values = service.server(settings) | service.scaling(settings) | ours(settings)
    return filled("service.yaml", values, service.comments(settings))


def secret(settings: Settings, credentials: Credentials) -> dict[str, Any]:
    """Return the Secret with its keys, to apply and never to print."""
    return with_keys(secret_document(settings), _keys(credentials))


def with_keys(document: CommentedMap, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return a Secret's document with its keys, to apply and never to print."""
    # In data: server-side apply never removes a key that once came in stringData.
    encoded = {key: b64encode(text.encode()).decode() for key, text in keys.items()}
    return {**plain(document), "data": encoded}


def _keys(credentials: Credentials) -> dict[str, str]:
    key_id = credentials.access_key_id.get_secret_value().strip()
    key_secret = credentials.access_key_secret.get_secret_value().strip()
    token = credentials.session_token.get_secret_value().strip()
    if token:  # the driver reads a token only beside these two spellings
        return {"AccessKeyId": key_id, "AccessKeySecret": key_secret, "SecurityToken": token}
    return {"akId": key_id, "akSecret": key_secret}
