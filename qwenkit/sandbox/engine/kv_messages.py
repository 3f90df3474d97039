"""Does the KV cache hold a longest sequence? What each release of vLLM says if not."""

from __future__ import annotations

from qwenkit.capacity.gpu import GIB, Model
from qwenkit.sandbox.engine.checkpoint import failure
from qwenkit.sandbox.engine.flags import Flags

NONE = (
    "No available memory for the cache blocks. Try increasing "
    "`gpu_memory_utilization` when initializing the engine."
)
_FIX = "Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the"


def check(longest: int, capacity: int, batched: int, flags: Flags, model: Model) -> None:
    """Check a sequence's maximum length against the cache's tokens (capacity) and a step's.

    ``model`` is one GPU's part of it.

    Raises:
        SandboxError: vLLM refuses to start.
    """
    if batched < longest and not flags.reads_in_chunks:
        raise failure(
            "ValueError",
            f"max_num_batched_tokens ({batched}) is smaller than max_model_len ({longest}). This "
            "effectively limits the maximum sequence length to max_num_batched_tokens and makes "
            "vLLM reject longer sequences. Please increase max_num_batched_tokens or decrease "
            "max_model_len.",
        )
    if batched < flags.max_num_seqs:
        raise failure(
            "ValueError",
            f"max_num_batched_tokens ({batched}) must be greater than or equal to max_num_seqs "
            f"({flags.max_num_seqs}).",
        )
    if longest <= capacity:
        return
    if not flags.release.v1:
        raise failure(
            "ValueError",
            f"The model's max seq len ({longest}) is larger than the maximum number of tokens "
            f"that can be stored in KV cache ({capacity}). {_FIX} engine.",
        )
    needed, there = (count * model.kv_bytes_per_token / GIB for count in (longest, capacity))
    raise failure(
        "ValueError",
        f"To serve at least one request with the models's max seq len ({longest}), "
        f"({needed:.2f} GiB KV cache is needed, which is larger than the available KV cache "
        f"memory ({there:.2f} GiB). Based on the available memory, the estimated maximum model "
        f"length is {capacity}. {_FIX} engine.",
    )
