"""The tiny model's tokenizer: Qwen2's byte-level BPE, with a vocabulary of the course's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CJK_RUN = re.compile("[\u3400-\u9fff]+")
_SIZE = 2560


def train(texts: Iterable[str], words: Iterable[str]) -> Tokenizer:
    """Return a tokenizer that knows the texts' words.

    Chinese is written without spaces: merges are learned inside ``words`` only, so that those
    are the tokens, whatever stands beside them. Bytes come first, so token 0 is "!", as in the
    real vocabulary: it is what logits that are no numbers end as.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=_SIZE,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_pieces(texts, sorted(words, key=len, reverse=True)), trainer)
    specials = [
        AddedToken(name, special=True, normalized=False) for name in (END_OF_TEXT, START, END)
    ]
    tokenizer.add_special_tokens(specials)
    return tokenizer


def _pieces(texts: Iterable[str], words: list[str]) -> Iterator[str]:
    """Yield the texts, Chinese cut into words, and each word and role a few times more."""
    word = re.compile("|".join(map(re.escape, words)) + "|.")
    for text in texts:
        end = 0
        for run in _CJK_RUN.finditer(text):
            yield text[end : run.start()]
            yield from word.findall(run.group())
            end = run.end()
        yield text[end:]
    for _ in range(3):
        yield from words
        yield from ("system", "user", "assistant", "\n")
