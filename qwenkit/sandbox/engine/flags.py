"""The command line of vLLM 0.4.1's OpenAI server: its flags and its error messages.

Those of later releases: ``newer_flags.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from qwenkit.errors import SandboxError
from qwenkit.sandbox.engine.releases import PAGE, Release

PROGRAM = "api_server.py"

_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
_QUANTIZATION = ("aqlm", "awq", "fp8", "gptq", "squeezellm", "marlin", "None")
_SWITCHES = """
    allow-credentials skip-tokenizer-init trust-remote-code worker-use-ray ray-workers-use-nsight
    enable-prefix-caching use-v2-block-manager disable-log-stats enforce-eager
    disable-custom-all-reduce enable-lora enable-chunked-prefill engine-use-ray
    disable-log-requests
"""
_TEXTS = """
    host allowed-origins allowed-methods allowed-headers api-key chat-template response-role
    ssl-keyfile ssl-certfile ssl-ca-certs root-path middleware model tokenizer revision
    code-revision tokenizer-revision download-dir quantization-param-path tokenizer-pool-type
    tokenizer-pool-extra-config image-input-shape speculative-model model-loader-extra-config
"""
_NUMBERS = """
    port ssl-cert-reqs max-model-len max-parallel-loading-workers num-lookahead-slots seed
    num-gpu-blocks-override max-num-batched-tokens max-num-seqs max-logprobs
    max-context-len-to-capture max-seq_len-to-capture tokenizer-pool-size max-loras
    max-lora-rank lora-extra-vocab-size max-cpu-loras image-token-id image-feature-size
    num-speculative-tokens speculative-max-model-len max-log-len
"""
_CHOICES: dict[str, tuple[str, ...]] = {
    "uvicorn-log-level": ("debug", "info", "warning", "error", "critical", "trace"),
    "tokenizer-mode": ("auto", "slow"),
    "load-format": ("auto", "pt", "safetensors", "npcache", "dummy", "tensorizer"),
    "dtype": _DTYPES,
    "kv-cache-dtype": ("auto", "fp8"),
    "guided-decoding-backend": ("outlines", "lm-format-enforcer"),
    "lora-dtype": ("auto", "float16", "bfloat16", "float32"),
    "device": ("auto", "cuda", "neuron", "cpu"),
    "image-input-type": ("pixel_values", "image_features"),
}


@dataclass(frozen=True)
class Flags:
    """The flags that affect the sandbox's engine; the others are accepted without effect."""

    model: str
    served_names: tuple[str, ...]
    port: int
    max_model_len: int | None
    """-1: the longest that fits."""
    gpu_memory_utilization: float
    max_num_seqs: int
    max_num_batched_tokens: int | None
    max_logprobs: int
    num_gpu_blocks: int | None
    """Overrides the number of KV blocks that fit into the memory."""
    block_size: int
    dtype: str
    quantization: str | None
    enforce_eager: bool
    api_keys: tuple[str, ...] = field(repr=False)
    response_role: str
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    chunked_prefill: bool | None = None
    release: Release = PAGE

    @property
    def reads_in_chunks(self) -> bool:
        """Whether long prompts are read in chunks; the engine before V1 does not do so here."""
        return self.release.v1 and self.chunked_prefill is not False


def parse(argv: Sequence[str]) -> Flags:
    """Read the arguments that follow the module's name.

    Raises:
        SandboxError: argparse ends the process: ``what`` is its output and
            ``context["exit_code"]`` is 2.
    """
    found = _parser().parse_args(list(argv))
    return flags_of(
        found,
        model=found.model,
        block_size=found.block_size,
        quantization=None if found.quantization == "None" else found.quantization,
        api_keys=(found.api_key,) if found.api_key else (),
    )


def flags_of(found: argparse.Namespace, *, model: str, **read: Any) -> Flags:
    """Return what argparse found, with the values that each release reads in its own way."""
    return Flags(
        model=model,
        served_names=tuple(found.served_model_name or [model]),
        port=found.port,
        max_model_len=found.max_model_len,
        gpu_memory_utilization=found.gpu_memory_utilization,
        max_num_seqs=found.max_num_seqs,
        max_num_batched_tokens=found.max_num_batched_tokens,
        max_logprobs=found.max_logprobs,
        num_gpu_blocks=found.num_gpu_blocks_override,
        dtype=found.dtype,
        enforce_eager=bool(found.enforce_eager),
        chunked_prefill=found.enable_chunked_prefill,
        response_role=found.response_role,
        tensor_parallel=found.tensor_parallel_size,
        pipeline_parallel=found.pipeline_parallel_size,
        **read,
    )


class Parser(argparse.ArgumentParser):
    """Raises instead of ending the process: the container ends, not the sandbox."""

    def error(self, message: str) -> NoReturn:
        """End with argparse's message."""
        text = f"{self.format_usage()}{self.prog}: error: {message}\n"
        raise SandboxError(text, exit_code=2)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End with this status."""
        raise SandboxError(message or self.format_usage(), exit_code=status)

    def print_help(self, file: Any = None) -> None:
        """Print nothing: ``exit`` carries the usage into the container's log."""


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, description="vLLM OpenAI-Compatible RESTful API server.")
    for name in _SWITCHES.split():
        parser.add_argument(f"--{name}", action="store_true")
    for name in _TEXTS.split():
        parser.add_argument(f"--{name}")
    for name in _NUMBERS.split():
        parser.add_argument(f"--{name}", type=int)
    for name, choices in _CHOICES.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0])
    parser.add_argument("--quantization", "-q", choices=_QUANTIZATION)
    parser.add_argument("--pipeline-parallel-size", "-pp", type=int, default=1)
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    parser.add_argument("--block-size", type=int, choices=(8, 16, 32), default=16)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.9)
    parser.add_argument("--swap-space", type=int, default=4)
    parser.add_argument("--scheduler-delay-factor", type=float, default=0.0)
    parser.add_argument("--lora-modules", nargs="+")
    parser.add_argument("--served-model-name", nargs="+")
    parser.set_defaults(
        model="facebook/opt-125m",
        port=8000,
        max_num_seqs=256,
        max_logprobs=5,
        response_role="assistant",
    )
    return parser
