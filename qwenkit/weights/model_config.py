"""Find the ``config.json`` of the settings' model, quickly, and without a need for any network.

Looked for in this order: the source's own folder, the catalogue of public models, the bucket's
prefix, the hub. What cannot be reached within some seconds is no error: what is derived from a
configuration then follows from less.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import oss2
import requests

from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.errors import NotFound, QwenkitError
from qwenkit.settings import Settings
from qwenkit.untrusted.parsing import parse_json
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.retry import Stop
from qwenkit.weights.store import BucketWeights

_log = logging.getLogger("qwenkit.weights")
_FILE = "config.json"
_MOST_BYTES = 1 << 20
_PATIENCE_S = 4.0  # of each place
_REMEMBERED_S = 60.0  # that nothing was found
_FAILURES = (QwenkitError, oss2.exceptions.OssError, requests.RequestException, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class FoundConfig:
    """A model's configuration and where it was; None, and why nobody has it."""

    config: ModelConfig | None
    where: str


_known: dict[tuple[str, ...], tuple[float, FoundConfig]] = {}


def read_model_config(settings: Settings) -> ModelConfig | None:
    """Return the configuration of the settings' model, None where it cannot be found.

    Raises:
        InvalidValue: a folder's ``config.json`` is that of no decoder; names the field.
    """
    return find_model_config(settings).config


def find_model_config(settings: Settings) -> FoundConfig:
    """Return the configuration and where it was; asked for once a process.

    Raises:
        InvalidValue: a folder's ``config.json`` is that of no decoder; names the field.
    """
    name = settings.model_name
    folder = Path(settings.model_source).expanduser()
    if (folder / _FILE).is_file():
        found = open_source(settings.model_source).read_json(_FILE, ends=0.0)
        return FoundConfig(ModelConfig.read(_mapping(found), name), f"{folder / _FILE}")
    if known := find_config(name):
        return FoundConfig(known, "the catalogue of public models")
    where = ("bucket", "prefix", "oss_endpoint", "modelscope_endpoint", "hf_endpoint", "storage")
    key = (settings.model_source, *(getattr(settings, field) for field in where))
    then, remembered = _known.get(key, (0.0, None))
    if remembered and (remembered.config or time.monotonic() - then < _REMEMBERED_S):
        return remembered
    made = _ask(settings, name)
    _known[key] = (time.monotonic(), made)
    return made


def _ask(settings: Settings, name: str) -> FoundConfig:
    places: dict[str, Callable[[], object]] = {
        f"oss://{settings.bucket}/{settings.prefix}": lambda: _from_bucket(settings),
        settings.model_source: lambda: _from_source(settings),
    }
    said = []
    for where, read in places.items():
        try:
            with Stop(_PATIENCE_S).active():
                return FoundConfig(ModelConfig.read(_mapping(read()), name), where)
        except _FAILURES as error:
            what = error.what if isinstance(error, QwenkitError) else type(error).__name__
            said.append(f"{where}: {what}")
    why = "; ".join(said)
    _log.info("no %s of %s: %s", _FILE, name, why)
    return FoundConfig(None, why)


def _from_bucket(settings: Settings) -> object:
    if settings.storage != "oss":
        why = "the weights lie in a claim or on a NAS"
        raise NotFound("no bucket", why, "give model_source as a folder or a hub")
    bucket = BucketWeights.of(settings).bucket
    bucket.timeout = (_PATIENCE_S, _PATIENCE_S)
    return parse_json(bucket.get_object(f"{settings.prefix}/{_FILE}").read(_MOST_BYTES))


def _from_source(settings: Settings) -> object:
    source = open_source(
        settings.model_source,
        modelscope_endpoint=settings.modelscope_endpoint,
        hf_endpoint=settings.hf_endpoint,
    )
    return source.read_json(_FILE, ends=time.monotonic() + _PATIENCE_S)


def _mapping(found: object) -> dict[str, object]:
    if not isinstance(found, dict):
        raise NotFound(f"{_FILE} is no JSON object", "a model's configuration is one", "mend it")
    return found
