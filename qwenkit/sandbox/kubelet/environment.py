"""Which environment variables does a container get?

Plain ones, those of Secrets and ConfigMaps, and fields of its pod's metadata.
Other fields of the pod (``spec.nodeName``, ``status.podIP``) and ``resourceFieldRef`` are left out.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from qwenkit.errors import NotReady
from qwenkit.sandbox.kube.objects import Object
from qwenkit.sandbox.kube.storage.store import ObjectStore

_KINDS = {"secret": "Secret", "configMap": "ConfigMap"}
_FIELD = re.compile(r"metadata\.(?:(name|namespace|uid)|(labels|annotations)\['(.+)'\])")


def resolve(
    store: ObjectStore, metadata: Mapping[str, Any], container: Mapping[str, Any]
) -> dict[str, str]:
    """Return the variables of a container of the pod with this metadata.

    Raises:
        NotReady: an object or a key does not exist; ``what`` is the kubelet's message.
    """
    namespace = metadata["namespace"]
    env: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        for kind in _KINDS:
            if reference := source.get(f"{kind}Ref"):
                found = _data(store, kind, namespace, reference)
                env |= {source.get("prefix", "") + key: value for key, value in found.items()}
    for one in container.get("env") or []:
        given = one.get("valueFrom") or {}
        for kind in _KINDS:
            if reference := given.get(f"{kind}KeyRef"):
                found = _data(store, kind, namespace, reference)
                env |= _key(found, kind, namespace, one["name"], reference)
        if field := _FIELD.fullmatch((given.get("fieldRef") or {}).get("fieldPath", "")):
            plain, pairs, key = field.groups()
            env[one["name"]] = metadata[plain] if plain else metadata.get(pairs, {}).get(key, "")
        if not given:
            env[one["name"]] = one.get("value", "")
    return env


def _data(store: ObjectStore, kind: str, namespace: str, reference: Object) -> dict[str, str]:
    found = store.find(_KINDS[kind], namespace, reference["name"])
    if found is None and not reference.get("optional"):
        raise NotReady(f'{kind.lower()} "{reference["name"]}" not found')
    data = (found or {}).get("data") or {}
    if kind == "configMap":
        return dict(data)
    return {key: base64.b64decode(text).decode(errors="replace") for key, text in data.items()}


def _key(
    data: Mapping[str, str], kind: str, namespace: str, name: str, reference: Object
) -> dict[str, str]:
    key = reference["key"]
    if key in data:
        return {name: data[key]}
    if not reference.get("optional"):
        where = f"{_KINDS[kind]} {namespace}/{reference['name']}"
        raise NotReady(f"couldn't find key {key} in {where}")
    return {}
