"""Check a model's files before serving them, and find its answers in them.

Nothing here knows a word of the model: what the engine says comes from the mounted bytes.
A file that is missing or broken ends the container the way vLLM 0.4.1 ends, with a traceback
that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwenkit.errors import SandboxError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class Checkpoint:
    """A model whose files are whole."""

    config: Mapping[str, Any]
    answers: Mapping[str, tuple[str, ...]]
    default: tuple[str, ...]

    def answer(self, ask: str) -> tuple[str, ...]:
        """Return the tokens with which the model answers ``ask``."""
        return self.answers.get(_normal(ask), self.default)


def load(files: Mapping[str, bytes], folder: str) -> Checkpoint:
    """Check every file of the model and read its answers.

    Args:
        files: the model's files by their names in ``folder``.
        folder: where the container sees them; for messages.

    Raises:
        SandboxError: a file is missing or broken; ``what`` is the traceback.
    """
    config = _config(files, folder)
    shards = _shards(files, folder)
    for name, wanted in shards.items():
        present = _tensors(files, folder, name)
        for tensor in sorted(wanted - present):
            raise failure(
                "safetensors_rust.SafetensorError",
                f"File does not contain tensor {tensor}: {folder}/{name}",
            )
    answers, default = _answers(files, folder)
    return Checkpoint(config=config, answers=answers, default=default)


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


def _normal(ask: str) -> str:
    return " ".join(ask.split()).casefold()


def _config(files: Mapping[str, bytes], folder: str) -> Mapping[str, Any]:
    if "config.json" not in files:
        raise failure(
            "OSError",
            f"{folder} does not appear to have a file named config.json. Checkout "
            f"'https://huggingface.co/{folder}/None' for available files.",
        )
    try:
        config = json.loads(files["config.json"])
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise failure(
            "OSError",
            f"It looks like the config file at '{folder}/config.json' is not a valid JSON file.",
        )
    return config


def _shards(files: Mapping[str, bytes], folder: str) -> dict[str, set[str]]:
    """Return the tensors that each shard must hold; none are asked of a single file."""
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


def _tensors(files: Mapping[str, bytes], folder: str, name: str) -> set[str]:
    """Return the names of a shard's tensors, its header checked against its size."""
    if name not in files:
        raise failure("FileNotFoundError", f'No such file or directory: "{folder}/{name}"')
    try:
        return _header(memoryview(files[name]))
    except ValueError as error:
        raise failure(
            "safetensors_rust.SafetensorError",
            f"Error while deserializing header: {error}: {folder}/{name}",
        ) from error


def _header(data: memoryview) -> set[str]:
    if len(data) < 8:
        raise ValueError("HeaderTooSmall")
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER:
        raise ValueError("HeaderTooLarge")
    if 8 + length > len(data):
        raise ValueError("InvalidHeaderLength")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        header.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in header.values()]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise ValueError("InvalidHeaderDeserialization") from None
    if 8 + length + max(ends, default=0) != len(data):
        raise ValueError("MetadataIncompleteBuffer")
    return set(header)


def _answers(
    files: Mapping[str, bytes], folder: str
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    if "answers.json" not in files:
        raise failure(
            "OSError",
            f"{folder} does not appear to have a file named answers.json. The sandbox's engine "
            "answers from that file: upload the sandbox's own model.",
        )
    try:
        found = json.loads(files["answers.json"])
        known = {_normal(one["ask"]): tuple(map(str, one["tokens"])) for one in found["answers"]}
        default = tuple(map(str, found["default"]["tokens"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise failure(
            "OSError",
            f"It looks like the file at '{folder}/answers.json' is not a valid JSON file.",
        ) from error
    return known, default
