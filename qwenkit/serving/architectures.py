"""The architectures of decoders (``architectures`` in config.json) and the vLLM that serves them.

Source: vLLM's list of supported models, by release (docs.vllm.ai/en/v0.4.1/models/… and later).
"""

from __future__ import annotations

from collections.abc import Mapping

QWEN_V1 = "QWenLMHeadModel"
FIRST_VERSION: Mapping[str, tuple[int, ...]] = {
    QWEN_V1: (0, 1, 4),
    "LlamaForCausalLM": (0, 1, 0),
    "BaichuanForCausalLM": (0, 1, 4),
    "MistralForCausalLM": (0, 2, 0),
    "ChatGLMModel": (0, 2, 2),
    "MixtralForCausalLM": (0, 2, 4),
    "Qwen2ForCausalLM": (0, 3, 0),
    "InternLM2ForCausalLM": (0, 3, 0),
    "GemmaForCausalLM": (0, 3, 2),
    "Qwen2MoeForCausalLM": (0, 4, 0),
    "Phi3ForCausalLM": (0, 4, 2),
    "Gemma2ForCausalLM": (0, 5, 1),
    "DeepseekV2ForCausalLM": (0, 5, 1),
    "DeepseekV3ForCausalLM": (0, 6, 6),
    "Qwen3ForCausalLM": (0, 8, 4),
    "Qwen3MoeForCausalLM": (0, 8, 4),
    "Qwen3NextForCausalLM": (0, 10, 2),
}
"""The first release of vLLM; an architecture that is not here may be served or not."""

OWN_CODE = (QWEN_V1, "BaichuanForCausalLM", "ChatGLMModel", "InternLM2ForCausalLM")
"""Their tokenizer or configuration is Python in the model's folder: --trust-remote-code."""

# A Qwen v1 chat ends its turn with <|im_end|>; it was trained to write more unless stopped there.
STOP_TOKEN_IDS: Mapping[str, tuple[int, ...]] = {QWEN_V1: (151645, 151643)}

# ChatML in the single-line form that --chat-template takes beside a file's name; double quotes,
# so that a shell can hold it in single ones.
CHATML = (
    '{% for m in messages %}{{ "<|im_start|>" + m.role + "\\n" + m.content + "<|im_end|>\\n" }}'
    '{% endfor %}{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}'
)
