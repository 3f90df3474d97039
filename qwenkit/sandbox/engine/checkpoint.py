"""Read a model from its files: configuration, tensors, tokenizer.

Every answer of the engine comes from the mounted bytes. A missing or broken file ends the
container the way vLLM 0.4.1 ends, with a traceback that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from qwenkit.errors import SandboxError
from qwenkit.sandbox.engine import safetensors
from qwenkit.sandbox.engine.releases import PAGE, Release
from qwenkit.sandbox.engine.tokenizer import ChatTokenizer
from qwenkit.sandbox.engine.transformer import LLAMA, QWEN2, QWEN3, ModelShape, Transformer

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TEMPLATE = "chat_template.jinja"  # where newer transformers write it
ARCHITECTURES = (QWEN2, QWEN3, LLAMA)

_FIRST_QWEN3 = (0, 8, 4)
# With transformers 4.44, a model without a chat template has none.
_NO_DEFAULT_TEMPLATE = (0, 5, 4)

Files = Mapping[str, bytes]
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer."""

    config: Mapping[str, Any]
    model: Transformer
    tokenizer: ChatTokenizer


def load(files: Files, folder: str, release: Release = PAGE) -> LoadedModel:
    """Check every file of the model and read it.

    Args:
        files: the content of the model's files by their names in ``folder``.
        folder: the container's path of them, for messages.
        release: of the vLLM that reads them.

    Raises:
        SandboxError: a file is missing or broken; ``what`` is the traceback.
    """
    config = _config(files, folder, release)
    tokenizer = _tokenizer(files, folder, release)
    tensors: Tensors = {}
    origin: dict[str, str] = {}
    for name, wanted in _shards(files, folder).items():
        present = _tensors(files, folder, name)
        for tensor in sorted(wanted - set(present)):
            raise failure(
                "safetensors_rust.SafetensorError",
                f"File does not contain tensor {tensor}: {folder}/{name}",
            )
        tensors |= present
        origin |= dict.fromkeys(present, f"{folder}/{name}")
    _fit(_shape(config, folder), tensors, origin, folder)
    return LoadedModel(config, Transformer(config, tensors), tokenizer)


def failure(kind: str, message: str) -> SandboxError:
    """Return the error with which a server that cannot load its model ends (exit code 1)."""
    lines = [
        "Traceback (most recent call last):",
        '  File "/usr/lib/python3.10/runpy.py", line 196, in _run_module_as_main',
        "    return _run_code(code, main_globals, None,",
        '  File "/workspace/vllm/entrypoints/openai/api_server.py", line 159, in <module>',
        "    engine = AsyncLLMEngine.from_engine_args(",
        '  File "/workspace/vllm/engine/async_llm_engine.py", line 361, in from_engine_args',
        "    engine = cls(",
        f"{kind}: {message}",
    ]
    return SandboxError("\n".join(lines) + "\n", exit_code=1)


def _config(files: Files, folder: str, release: Release) -> Mapping[str, Any]:
    if "config.json" not in files:
        raise failure(
            "OSError",
            f"{folder} does not appear to have a file named config.json. Checkout "
            f"'https://huggingface.co/{folder}/None' for available files.",
        )
    config = _json(files, folder, "config.json")
    architectures = config.get("architectures") or []
    if architectures == [QWEN3] and release.version < _FIRST_QWEN3:
        raise failure(
            "ValueError",
            "The checkpoint you are trying to load has model type `qwen3` but Transformers does "
            "not recognize this architecture. This could be because of an issue with the "
            "checkpoint, or because your version of Transformers is out of date.",
        )
    if len(architectures) != 1 or architectures[0] not in ARCHITECTURES:
        raise failure(
            "ValueError",
            f"Model architectures {architectures} are not supported for now: "
            f"{folder}/config.json. The sandbox's engine computes {', '.join(ARCHITECTURES)}.",
        )
    return config


def _json(files: Files, folder: str, name: str) -> Mapping[str, Any]:
    """Return a file's JSON object, an empty one if there is no such file."""
    try:
        found = json.loads(files.get(name, b"{}"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise failure(
            "OSError",
            f"It looks like the config file at '{folder}/{name}' is not a valid JSON file.",
        )
    return found


def _shape(config: Mapping[str, Any], folder: str) -> ModelShape:
    try:
        return ModelShape.read(config)
    except KeyError as error:
        kind = config["architectures"][0].replace("ForCausalLM", "Config")
        raise failure(
            "AttributeError", f"'{kind}' object has no attribute {error}: {folder}/config.json"
        ) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise failure("ValueError", f"{error}: {folder}/config.json") from error


def _tokenizer(files: Files, folder: str, release: Release) -> ChatTokenizer:
    if "tokenizer.json" not in files:
        raise failure(
            "OSError",
            f"Can't load tokenizer for '{folder}'. If you were trying to load it from "
            "'https://huggingface.co/models', make sure you don't have a local directory with the "
            f"same name. Otherwise, make sure '{folder}' is the correct path to a directory "
            "containing all relevant files for a Qwen2TokenizerFast tokenizer: "
            "there is no tokenizer.json.",
        )
    settings = dict(_json(files, folder, "tokenizer_config.json"))
    if TEMPLATE in files:
        settings["chat_template"] = files[TEMPLATE].decode("utf-8", "replace")
    default = release.version < _NO_DEFAULT_TEMPLATE
    generation = _json(files, folder, "generation_config.json")
    try:
        return ChatTokenizer(files["tokenizer.json"], settings, generation, default)
    except ValueError as error:
        raise failure("Exception", f"{error}: {folder}/tokenizer.json") from error
    except TemplateError as error:
        raise failure(
            "jinja2.exceptions.TemplateSyntaxError", f"{error}: {folder}/tokenizer_config.json"
        ) from error


def _shards(files: Files, folder: str) -> dict[str, set[str]]:
    """Return the tensors that each shard must hold, by the index; a single file has no index."""
    if INDEX not in files:
        if SINGLE not in files:
            raise failure("RuntimeError", f"Cannot find any model weights with `{folder}`")
        return {SINGLE: set()}
    try:
        weight_map = json.loads(files[INDEX])["weight_map"]
        shards: dict[str, set[str]] = {name: set() for name in weight_map.values()}
        for tensor, name in weight_map.items():
            shards[name].add(tensor)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise failure(
            "json.decoder.JSONDecodeError", f"the index is not valid: {folder}/{INDEX}"
        ) from error
    return shards


def _tensors(files: Files, folder: str, name: str) -> Tensors:
    if name not in files:
        raise failure("FileNotFoundError", f'No such file or directory: "{folder}/{name}"')
    try:
        return safetensors.read(files[name])
    except ValueError as error:
        raise failure(
            "safetensors_rust.SafetensorError",
            f"Error while deserializing header: {error}: {folder}/{name}",
        ) from error


def _fit(shape: ModelShape, tensors: Tensors, origin: Mapping[str, str], folder: str) -> None:
    """Refuse tensors that do not match the configuration."""
    for name, wanted in shape.tensors().items():
        if name not in tensors:
            raise failure("ValueError", f"There is no tensor {name} in the weights of {folder}")
        found = tensors[name]
        if not np.issubdtype(found.dtype, np.floating):
            raise failure(
                "TypeError",
                f"{name} has type {found.dtype}, weights must be floating point: {origin[name]}",
            )
        if found.shape != wanted:
            raise failure(
                "AssertionError",
                f"{name} has shape {list(found.shape)}, {folder}/config.json says "
                f"{list(wanted)}: {origin[name]}",
            )
