"""Record the answers of real transformers and real vLLM with the sandbox's tiny model.

    TOOLS_PYTHON tools/record_reference.py transformers
    VLLM_PYTHON tools/record_reference.py vllm

Both compute greedily in float32 on the CPU, and read the package's files themselves, tokenizer and
chat template included. ``make crosscheck`` runs both and compares the sandbox's engine.
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
MODEL = ROOT / "qwenkit" / "sandbox" / "model"
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
    return {"made_by": made_by, "answers": [answer(messages) for messages in prompts()]}


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


def main() -> None:
    """Record one of the two."""
    engines = {"transformers": by_transformers, "vllm": by_vllm}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engine", choices=engines)
    parser.add_argument("--model", type=Path, default=MODEL, help="folder (%(default)s)")
    parser.add_argument("--output", type=Path, default=DATA, help="folder (%(default)s)")
    given = parser.parse_args()
    recorded = engines[given.engine](given.model)
    text = json.dumps(recorded, ensure_ascii=False, separators=(",", ":"))
    path = given.output / f"tiny-model-{given.engine}.json.gz"
    # No time and no name in the header: the same recording is the same file.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(text.encode())
    print(f"{recorded['made_by']}: {len(recorded['answers'])} answers → {path}")


if __name__ == "__main__":
    main()
