"""Public models by name: their published configuration, its hub, its variants.

``models.json`` names the shapes and their sources. A name's endings are read by rule:
``Qwen1.5-7B-Chat-GPTQ-Int4`` is the shape of ``Qwen1.5-7B``, quantised by GPTQ with 4 bits in
groups of 128, as its makers publish all of theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from qwenkit.capacity.gpu import Model
from qwenkit.capacity.model_config import KNOWLEDGE, ModelConfig
from qwenkit.errors import InvalidValue

_ENDINGS = re.compile(r"-(chat|instruct|thinking|it|base|hf|2507)(?=-|$)|-v[0-9][0-9.]*$", re.I)
_STORED = re.compile(r"-(?:(?:gptq-)?int(?P<bits>[2348])|gptq|(?P<awq>awq)|(?P<fp8>fp8))$", re.I)

_SHAPES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    name.lower(): (name, family | own, family["fields"] | own)
    for family in KNOWLEDGE["families"]
    for name, own in family["models"].items()
}
NAMES = tuple(name for name, _, _ in _SHAPES.values())  # of the shapes, without variants


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A public model; ``hub`` has it, such as modelscope:Qwen.

    ``siblings`` name the same model stored in other formats, the largest first.
    """

    config: ModelConfig
    hub: str
    siblings: tuple[str, ...]


def find_known(name: str) -> KnownModel | None:
    """Return a public model by its name, whatever its case; None if it is not known.

    ``modelscope:qwen/Qwen-7B-Chat-Int8@v1.1`` and a path that ends in the name are read too.
    """
    return _known(name.rstrip("/").rpartition("/")[2].rpartition(":")[2].partition("@")[0])


def find_config(name: str) -> ModelConfig | None:
    """Return the configuration of a public model by its name; None if it is not known."""
    known = find_known(name)
    return known.config if known else None


def find_model(model: Model | ModelConfig | str) -> Model:
    """Return the sizes of a model, given them, its configuration, or its name.

    Raises:
        InvalidValue: it is not in the catalogue.
    """
    if isinstance(model, Model):
        return model
    config = find_config(model) if isinstance(model, str) else model
    if config is None:
        rule = f"a public model of the catalogue: {', '.join(NAMES)}, or one of their variants"
        raise InvalidValue("model", model, rule, "or give its config.json")
    return config.model()


@cache
def _known(name: str) -> KnownModel | None:
    stored = _STORED.search(name)
    plain = name[: stored.start()] if stored else name
    shape = _ENDINGS.sub("", plain.lower()).replace("qwen2.5-coder", "qwen2.5")
    found = _SHAPES.get(shape) or _SHAPES.get(f"meta-{shape}")
    if found is None:
        return None
    base, family, fields = found
    if "-2507" in plain:  # Qwen3's update of July 2025
        fields = {**fields, "max_position_embeddings": 262_144}
    siblings = tuple(f"{base}{ending}" for ending in family["variants"])
    name = next((one for one in (base, *siblings) if one.lower() == name.lower()), name)
    return KnownModel(
        ModelConfig.read({**fields, **(_quantized(stored, fields) if stored else {})}, name),
        hub=family["hub"],
        siblings=siblings,
    )


def _quantized(stored: re.Match[str], fields: dict[str, Any]) -> dict[str, Any]:
    if stored["fp8"]:
        return {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    method, bits = "awq" if stored["awq"] else "gptq", int(stored["bits"] or 4)
    width = fields.get("grouped_intermediate_size", fields["intermediate_size"])
    dtype = {"torch_dtype": "float16"} if "torch_dtype" in fields else {}
    quantization = {"quant_method": method, "bits": bits, "group_size": 128}
    return {"quantization_config": quantization, "intermediate_size": width, **dtype}


QWEN_7B_INT8 = find_model("Qwen-7B-Chat-Int8")
