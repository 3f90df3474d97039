"""Record the answers of real transformers and real vLLM with the sandbox's tiny models.

    TOOLS_PYTHON tools/record_reference.py transformers
    TOOLS_PYTHON tools/record_reference.py transformers --architecture qwen3
    TOOLS_PYTHON tools/record_reference.py shapes
    VLLM_PYTHON tools/record_reference.py vllm

Both compute greedily in float32 on the CPU, and read the package's files themselves, tokenizer and
chat template included. ``shapes`` records transformers' logits of small models with drawn weights:
each architecture with and without biases, tied weights, heads of a width of their own.
``make crosscheck`` runs all and compares the sandbox's engine.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "qwenkit" / "sandbox" / "models"
DATA = ROOT / "tests" / "data"
PROMPTS = Path(__file__).with_name("prompts.yaml")
TOKENS, TOP = 40, 20

Json = dict[str, Any]
Messages = list[dict[str, str]]


def prompts() -> list[Messages]:
    """Return the conversations of prompts.yaml."""
    found = yaml.safe_load(PROMPTS.read_text("utf-8"))
    texts = [*found["course"], *found["paraphrases"], *found["nonsense"]]
    texts += [one["repeat"] * one["times"] + one["then"] for one in found["long"]]
    return [_messages([text]) for text in texts] + [
        _messages(one) for one in found["conversations"]
    ]


def _messages(texts: list[str]) -> Messages:
    system = texts[0].removeprefix("system: ")
    messages = []
    if system != texts[0]:
        messages.append({"role": "system", "content": system})
        texts = texts[1:]
    for number, text in enumerate(texts):
        messages.append({"role": ("user", "assistant")[number % 2], "content": text})
    return messages


def by_transformers(model: Path) -> Json:
    """Return transformers' answers: all logits after the prompt, the best ones of each step."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    ends = network.generation_config.eos_token_id

    @torch.no_grad()
    def answer(messages: Messages) -> Json:
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        tokens: list[int] = []
        steps = []
        ids, cache = torch.tensor([prompt]), None
        while not tokens or (len(tokens) < TOKENS and tokens[-1] not in ends):
            out = network(ids, past_key_values=cache, use_cache=True)
            logits, cache = out.logits[0, -1].numpy(), out.past_key_values
            if not steps:
                first = base64.b64encode(logits.astype("<f4").tobytes()).decode()
            best = (-logits).argsort(kind="stable")[:TOP]
            steps.append([[int(token), round(float(logits[token]), 5)] for token in best])
            tokens.append(int(best[0]))
            ids = torch.tensor([[tokens[-1]]])
        return {
            "messages": messages,
            "prompt": list(prompt),
            "tokens": tokens,
            "logits": first,
            "top_logits": steps,
        }

    made_by = f"transformers {transformers.__version__}, torch {torch.__version__}"
    # What is not read by its architecture is the same: a fifth of the prompts is enough.
    asked = prompts()[:: 1 if model.name == "qwen2" else 5]
    return {"made_by": made_by, "answers": [answer(messages) for messages in asked]}


def by_vllm(model: Path) -> Json:
    """Return vLLM's answers: the tokens and the best log probabilities of each step."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    import vllm

    engine = vllm.LLM(
        str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=4096,
        max_logprobs=TOP,
        generation_config="vllm",
        seed=0,
    )
    greedy = vllm.SamplingParams(temperature=0.0, max_tokens=TOKENS, logprobs=TOP)
    asked = prompts()
    answers = [
        {
            "messages": messages,
            "prompt": list(found.prompt_token_ids),
            "tokens": list(found.outputs[0].token_ids),
            "top_logprobs": [_best(step) for step in found.outputs[0].logprobs],
        }
        for messages, found in zip(asked, engine.chat(asked, greedy), strict=True)
    ]
    return {"made_by": f"vllm {vllm.__version__}", "answers": answers}


def _best(step: Any) -> list[list[float]]:
    found = sorted(step.items(), key=lambda item: item[1].rank)
    return [[token, round(one.logprob, 5)] for token, one in found[:TOP]]


SHAPES: list[Json] = [
    {"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": False},
    {"architectures": ["Qwen3ForCausalLM"], "head_dim": 24, "tie_word_embeddings": True},
    {"architectures": ["Qwen3ForCausalLM"], "head_dim": 8, "tie_word_embeddings": False},
    {"architectures": ["Qwen3ForCausalLM"], "attention_bias": True, "num_key_value_heads": 4},
    {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True},
    {"architectures": ["LlamaForCausalLM"], "attention_bias": True, "rope_theta": 500_000.0},
]
_SIZES = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
}


def by_shape(_: Path) -> Json:
    """Return the logits of small models whose weights are drawn in the order of their names."""
    import numpy as np
    import torch
    import transformers

    answers = []
    for number, shape in enumerate(SHAPES):
        config = _SIZES | shape
        name = shape["architectures"][0]
        kind = getattr(transformers, name.replace("ForCausalLM", "Config"))
        given = {key: value for key, value in config.items() if key != "rope_theta"}
        rope = {"rope_type": "default", "rope_theta": config["rope_theta"]}
        made = getattr(transformers, name)(kind(**given, rope_parameters=rope)).eval()
        draw = np.random.default_rng(number)
        with torch.no_grad():
            for _, tensor in sorted(made.named_parameters()):
                tensor.copy_(torch.tensor(draw.normal(size=tuple(tensor.shape)) * 0.3))
            prompt = [int(token) for token in draw.integers(0, config["vocab_size"], 24)]
            logits = made(torch.tensor([prompt])).logits[0, -1]
        answers.append({"config": config, "prompt": prompt, "logits": logits.tolist()})
    return {"made_by": f"transformers {transformers.__version__}", "answers": answers}


def main() -> None:
    """Record one of them."""
    engines = {"transformers": by_transformers, "vllm": by_vllm, "shapes": by_shape}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engine", choices=engines)
    parser.add_argument("--architecture", choices=("qwen2", "qwen3"), default="qwen2")
    parser.add_argument("--output", type=Path, default=DATA, help="folder (%(default)s)")
    given = parser.parse_args()
    recorded = engines[given.engine](MODELS / given.architecture)
    text = json.dumps(recorded, ensure_ascii=False, separators=(",", ":"))
    name = "model" if given.architecture == "qwen2" else given.architecture
    path = given.output / f"tiny-{name}-{given.engine}.json.gz"
    # No time and no name in the header: the same recording is the same file.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode())
    print(f"{recorded['made_by']}: {len(recorded['answers'])} answers → {path}")


if __name__ == "__main__":
    main()
