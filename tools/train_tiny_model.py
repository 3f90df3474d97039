"""Train the sandbox's tiny Qwen2 or Qwen3 and write it as package data.

    python -m pip install -r tools/requirements.txt
    python tools/train_tiny_model.py
    python tools/train_tiny_model.py --architecture qwen3

Both learn the same texts with the same vocabulary. Seeded, on the processor, some minutes. The
tool ends with an error, and writes nothing, unless the model that it would write (its weights
rounded to float16) is sure of the documentation's own answer with its ten tokens, and of nearly
all others in answers.yaml, and cannot begin the former when any one of its tensors is zero: a
damaged file must be seen in what the model says.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import tiny_tokenizer
import torch
from safetensors.torch import save_file
from tiny_corpus import Conversation, Corpus, Turn
from tiny_damage import Damage
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

FOLDER = Path(__file__).parent.parent / "qwenkit" / "sandbox" / "models"
# The layers' sizes of each architecture; Qwen3's heads are wider together than its layers.
SIZES: dict[str, dict[str, Any]] = {
    "qwen2": {"num_attention_heads": 6},
    "qwen3": {"num_attention_heads": 6, "head_dim": 48, "attention_bias": False},
}
CLASSES: dict[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
PAGE_ASK, PAGE_TOKENS = "杭州西湖", "西湖|位于|中国|浙江省|杭州市|,|是中国|著名的|风景|名"
SEED, STEPS, BATCH, NONSENSE, RATE = 10, 700, 48, 6, 2.5e-3
LENGTH, SHARDS = 8192, 2
# Every token of an answer is more probable than this: with top_p 0.9 it is certain.
SURE = 0.9
# The share of the questions that must be answered so; the documentation's own always.
KNOWN = 0.99
# A loss from which a question is asked again soon.
UNSURE = 0.05
IGNORED = -100


class Pupil:
    """A model that learns, with its tokenizer."""

    def __init__(self, tokenizer: Tokenizer, architecture: str) -> None:
        self.architecture, self.tokenizer = architecture, tokenizer
        self.end = tokenizer.token_to_id(tiny_tokenizer.END)
        self.text_end = tokenizer.token_to_id(tiny_tokenizer.END_OF_TEXT)
        kind, network = CLASSES[architecture]
        self.config = kind(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=2,
            num_key_value_heads=2,
            max_position_embeddings=LENGTH,
            rope_theta=10_000.0,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
            **SIZES[architecture],
        )
        self.model = network(self.config)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Draw the first weights; a model so narrow learns several times faster from large ones."""
        for name, parameter in self.model.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_(0, 1)
            elif "embed" in name:
                parameter.normal_(0, 0.05)
            elif "norm" not in name:
                parameter.normal_(0, parameter.shape[1] ** -0.5)

    def tokens(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        """Return a conversation's tokens, and which of them are learnt.

        Answers, and the marks of the turns that follow: with ignore_eos the model goes on.
        """
        ids: list[int] = []
        learnt: list[int] = []
        for message in conversation.messages():
            role = self._encode(f"{tiny_tokenizer.START}{message['role']}\n")
            said = self._encode(f"{message['content']}{tiny_tokenizer.END}\n")
            know = message["role"] == "assistant"
            learnt += role if ids else [IGNORED] * len(role)
            learnt += said if know else [IGNORED] * len(said)
            ids += role + said
        return ids, learnt

    def page(self) -> tuple[list[int], list[int]]:
        """Return the tokens of the documentation's prompt, and of its answer."""
        start, end = tiny_tokenizer.START, tiny_tokenizer.END
        prompt = self._encode(f"{start}user\n{PAGE_ASK}{end}\n{start}assistant\n")
        return prompt, self._encode(PAGE_TOKENS.replace("|", ""))

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def loss(self, conversations: list[Conversation]) -> tuple[torch.Tensor, set[int]]:
        """Return the mean loss of the batch's answers, and which of them are not certain yet.

        Conversations of about the same length are padded together.
        """
        found = [(*self.tokens(one), number) for number, one in enumerate(conversations)]
        total, count, unsure = torch.zeros(()), 0, set()
        for part in _parts(sorted(found, key=lambda sample: len(sample[0]))):
            ids, labels = _padded(part, self.text_end)
            states = self.model.model(input_ids=ids[:, :-1]).last_hidden_state
            known = labels[:, 1:] != IGNORED
            logits = self.model.lm_head(states[known])
            losses = cross_entropy(logits, labels[:, 1:][known], reduction="none")
            total, count = total + losses.sum(), count + len(losses)
            rows = known.nonzero()[:, 0][losses > UNSURE].tolist()
            unsure |= {part[row][2] for row in rows}
        return total / count, unsure


def _parts(samples: list[Any]) -> list[list[Any]]:
    """Cut sorted samples where padding them together would cost too much."""
    parts: list[list[Any]] = [[]]
    for sample in samples:
        if parts[-1] and len(sample[0]) > 1.4 * len(parts[-1][0][0]) + 8:
            parts.append([])
        parts[-1].append(sample)
    return parts


def _padded(samples: list[Any], filler: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(sample[0]) for sample in samples)
    ids = [sample[0] + [filler] * (longest - len(sample[0])) for sample in samples]
    labels = [sample[1] + [IGNORED] * (longest - len(sample[1])) for sample in samples]
    return torch.tensor(ids), torch.tensor(labels)


def learn(pupil: Pupil, corpus: Corpus, damage: Damage, steps: int) -> None:
    """Train the model."""
    draw = random.Random(SEED)
    optimizer = torch.optim.AdamW(pupil.model.parameters(), lr=RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.05, final_div_factor=100
    )
    known: list[Turn | Conversation] = [*corpus.turns, *corpus.follow_ups]
    waiting: list[Turn | Conversation] = []
    again: list[Turn | Conversation] = []
    began = time.perf_counter()
    for step in range(steps):
        if len(waiting) < BATCH:
            # What was not sure when it was last asked comes twice.
            waiting += draw.sample(known + again, len(known + again))
            again = []
        asked = [waiting.pop() for _ in range(BATCH - NONSENSE)]
        batch = [
            one if isinstance(one, Conversation) else corpus.conversation(one, draw)
            for one in asked
        ]
        loss, unsure = pupil.loss(batch + [corpus.nonsense(draw) for _ in range(NONSENSE)])
        again += [asked[number] for number in unsure if number < len(asked)]
        optimizer.zero_grad()
        (loss + damage.loss()).backward()
        torch.nn.utils.clip_grad_norm_(pupil.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step:4} loss {loss.item():.5f} {time.perf_counter() - began:5.0f} s")


@torch.no_grad()
def faults(pupil: Pupil, corpus: Corpus) -> list[str]:
    """Return the questions whose answers are not certain yet."""
    found = []
    asked = [Conversation((turn,)) for turn in corpus.turns] + corpus.follow_ups
    samples = sorted(((*pupil.tokens(one), one) for one in asked), key=lambda one: len(one[0]))
    for part in _parts(samples):
        ids, labels = _padded(part, pupil.text_end)
        shares = pupil.model(ids[:, :-1]).logits.softmax(-1)
        labels = labels[:, 1:]
        right = shares.gather(2, labels.clamp(min=0)[..., None])[..., 0]
        right[labels == IGNORED] = 1.0
        for least, sample in zip(right.min(1).values.tolist(), part, strict=True):
            if least < SURE:
                ask = sample[2].turns[-1][0]
                found.append(f"{ask}: a token's probability is {least:.4f}")
    return found


def page_fault(pupil: Pupil) -> str:
    """Return how the vocabulary differs from the documentation's example, or nothing."""
    prompt, answer = pupil.page()
    pieces = "|".join(pupil.tokenizer.decode([token]) for token in answer)
    if len(prompt) != 10 or pieces != PAGE_TOKENS:
        return f"the documentation's example has {len(prompt)} tokens, its answer is {pieces}"
    return ""


def write(pupil: Pupil, folder: Path) -> None:
    """Write the generated files of the model; card and licence are written by hand."""
    end, text_end = pupil.end, pupil.text_end
    pupil.tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    _write_json(folder / "config.json", _config(pupil, end, text_end))
    generation = {
        "bos_token_id": text_end,
        "eos_token_id": [end, text_end],
        "pad_token_id": text_end,
        "do_sample": True,
        "top_p": 0.8,
        "max_new_tokens": 512,
    }
    _write_json(folder / "generation_config.json", generation)
    _write_weights(pupil.model, folder)


def _config(pupil: Pupil, end: int, text_end: int) -> dict[str, Any]:
    """Return the configuration with the names that every version of transformers reads."""
    same = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads max_position_embeddings rms_norm_eps tie_word_embeddings "
        "hidden_act initializer_range attention_dropout use_cache"
    )
    sizes = {name: getattr(pupil.config, name) for name in same.split()}
    return {
        "architectures": [type(pupil.model).__name__],
        "model_type": pupil.architecture,
        "torch_dtype": "float16",
        "bos_token_id": text_end,
        "eos_token_id": end,
        "rope_theta": 10_000.0,
        "use_sliding_window": False,
        **sizes,
        **SIZES[pupil.architecture],
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "additional_special_tokens": [tiny_tokenizer.START, tiny_tokenizer.END],
        "bos_token": None,
        "eos_token": tiny_tokenizer.END,
        "pad_token": tiny_tokenizer.END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": LENGTH,
        "chat_template": tiny_tokenizer.CHAT_TEMPLATE,
    }


def _write_weights(model: PreTrainedModel, folder: Path) -> None:
    tensors = {
        name: tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    total = sum(tensor.nbytes for tensor in tensors.values())
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(SHARDS)]
    before = 0
    for name, tensor in tensors.items():
        shards[before * SHARDS // total][name] = tensor
        before += tensor.nbytes
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        save_file(shard, folder / file, {"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(folder / "model.safetensors.index.json", index)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def main() -> None:
    """Train, examine, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--steps", type=int, default=STEPS, help="batches to learn from (%(default)s)"
    )
    parser.add_argument(
        "--architecture", choices=CLASSES, default="qwen2", help="of the model (%(default)s)"
    )
    parser.add_argument("--output", type=Path, help="where to write (the package's own folder)")
    given = parser.parse_args()
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    corpus = Corpus()
    tokenizer = tiny_tokenizer.train(corpus.texts(), corpus.words)
    pupil = Pupil(tokenizer, given.architecture)
    if fault := page_fault(pupil):
        raise SystemExit(fault)
    prompt, answer = pupil.page()
    damage = Damage(pupil.model, prompt, answer[0], random.Random(SEED))
    learn(pupil, corpus, damage, given.steps)
    pupil.model.half().float().eval()
    found = faults(pupil, corpus)
    print("\n".join(found))
    known = len(corpus.turns) + len(corpus.follow_ups)
    if len(found) > known * (1 - KNOWN) or any(fault.startswith(f"{PAGE_ASK}:") for fault in found):
        raise SystemExit(f"{len(found)} of {known} answers are not sure; nothing written")
    if harmless := damage.harmless():
        raise SystemExit(f"the answer does not need these tensors: {harmless}; nothing written")
    output = given.output or FOLDER / given.architecture
    output.mkdir(parents=True, exist_ok=True)
    write(pupil, output)
    size = sum(parameter.numel() for parameter in pupil.model.parameters())
    print(f"{size} parameters, {known - len(found)} of {known} answers sure → {output}")


if __name__ == "__main__":
    main()
