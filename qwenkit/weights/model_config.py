"""Find the ``config.json`` of the settings' model, quickly, and without a need for any network.

Looked for in this order: the source's own folder, the catalogue of public models, the bucket's
prefix, the hub. What cannot be reached within some seconds is no error: what is derived from a
configuration then follows from less.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import oss2
import requests

from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.errors import NotFound, QwenkitError
from qwenkit.settings import Settings
from qwenkit.untrusted.parsing import parse_json
from qwenkit.weights.retry import Stop
from qwenkit.weights.store import BucketWeights, source_of

_log = logging.getLogger("qwenkit.weights")
_FILE = "config.json"
_MOST_BYTES = 1 << 20
_PATIENCE_S = 4.0  # of each place
_REMEMBERED_S = 60.0  # that nothing was found
_FAILURES = (QwenkitError, oss2.exceptions.OssError, requests.RequestException, OSError, ValueError)
_known: dict[tuple[str, ...], tuple[float, ModelConfig | None]] = {}


def read_model_config(settings: Settings) -> ModelConfig | None:
    """Return the configuration of the settings' model, None where it cannot be found.

    Bucket and hub are asked once a process; why they have none is logged.

    Raises:
        InvalidValue: a folder's ``config.json`` is that of no decoder; names the field.
    """
    if (Path(settings.model_source).expanduser() / _FILE).is_file():
        return _read(settings, _from_source(settings))
    if known := find_config(settings.model_name):
        return known
    where = ("bucket", "prefix", "oss_endpoint", "modelscope_endpoint", "hf_endpoint", "storage")
    key = (settings.model_source, *(getattr(settings, field) for field in where))
    then, found = _known.get(key, (-_REMEMBERED_S, None))
    if found is None and time.monotonic() - then >= _REMEMBERED_S:
        found = _asked(settings)
        _known[key] = (time.monotonic(), found)
    return found


def read_config_file(settings: Settings) -> object:
    """Return what ``config.json`` of the model's source holds; of a folder, or of a hub.

    Raises:
        QwenkitError: it cannot be read.
    """
    with Stop(_PATIENCE_S).active():
        return _from_source(settings)


def _asked(settings: Settings) -> ModelConfig | None:
    for ask in (partial(_from_bucket, settings), partial(_from_source, settings)):
        try:
            with Stop(_PATIENCE_S).active():
                return _read(settings, ask())
        except _FAILURES as error:
            _log.info("no %s of %s: %s", _FILE, settings.model_source, error)
    return None


def _from_bucket(settings: Settings) -> object:
    if settings.storage != "oss":
        raise NotFound("no bucket", "the weights lie in a claim or on a NAS", "ask the hub")
    bucket = BucketWeights.of(settings).bucket
    bucket.timeout = (_PATIENCE_S, _PATIENCE_S)
    with closing(bucket.get_object(f"{settings.prefix}/{_FILE}")) as answer:
        return parse_json(answer.read(_MOST_BYTES))


def _from_source(settings: Settings) -> object:
    return source_of(settings).read_json(_FILE, _PATIENCE_S)


def _read(settings: Settings, found: object) -> ModelConfig:
    if not isinstance(found, Mapping):
        raise NotFound(f"{_FILE} is no JSON object", "a model's configuration is one", "mend it")
    return ModelConfig.read(found, settings.model_name)
