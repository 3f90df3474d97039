"""Turn text into tokens and back, with a model's own tokenizer and chat template."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from qwenkit.errors import InvalidValue

_CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_NO_TEMPLATE = (
    "{{ raise_exception('As of transformers v4.44, default chat template is no longer allowed, so "
    "you must provide a chat template if the tokenizer does not define one.') }}"
)


class ChatTokenizer:
    """The tokenizer and the chat template of one model."""

    def __init__(
        self,
        tokenizer: bytes,
        tokenizer_config: Mapping[str, Any],
        generation_config: Mapping[str, Any],
        default_template: bool = True,
    ) -> None:
        """Read the model's files.

        Args:
            tokenizer: the content of ``tokenizer.json``, a byte-level one.
            tokenizer_config: the chat template and the end token.
            generation_config: may name further end tokens.
            default_template: whether a model without a chat template gets one.

        Raises:
            ValueError: the tokenizer is broken, or not byte-level.
            TemplateError: the chat template is broken.
        """
        self._tokenizer = _read(tokenizer)
        self._special_ids = frozenset(
            number
            for number, added in self._tokenizer.get_added_tokens_decoder().items()
            if added.special
        )
        self._pieces = _pieces(self._tokenizer)
        self._variables = {
            name: tokenizer_config[name]
            for name in ("bos_token", "eos_token", "pad_token", "unk_token")
            if isinstance(tokenizer_config.get(name), str)
        }
        missing = _CHATML if default_template else _NO_TEMPLATE
        self._template = _environment().from_string(
            str(tokenizer_config.get("chat_template") or missing)
        )
        self.eos_ids = self._end_tokens(generation_config)

    def _end_tokens(self, generation_config: Mapping[str, Any]) -> frozenset[int]:
        stated = generation_config.get("eos_token_id")
        ids = stated if isinstance(stated, list) else [stated]
        own = self._tokenizer.token_to_id(self._variables.get("eos_token", ""))
        return frozenset(number for number in (*ids, own) if isinstance(number, int))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of ``text``; special tokens written in it count as such."""
        # A lone surrogate, which JSON can carry, has no UTF-8.
        clean = text.encode("utf-8", "replace").decode()
        return list(self._tokenizer.encode(clean, add_special_tokens=False).ids)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Return the tokens of a conversation as the chat template writes it.

        ``variables`` are more of the template's, such as ``enable_thinking``.

        Raises:
            InvalidValue: the template refuses the messages; ``rule`` is its message.
        """
        try:
            text = self._template.render(
                {**self._variables, **(variables or {})},
                messages=messages,
                add_generation_prompt=True,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise InvalidValue("messages", f"{len(messages)} messages", str(error)) from error
        return self.encode(text)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of tokens; bytes that are not UTF-8 become U+FFFD."""
        kept = (number for number in ids if not (skip_special_tokens and self.is_special(number)))
        return b"".join(map(self.piece, kept)).decode("utf-8", "replace")

    def piece(self, token_id: int) -> bytes:
        """Return one token's bytes, which may end inside a character."""
        return self._pieces.get(token_id, b"")

    def is_special(self, token_id: int) -> bool:
        """Return whether a token is a special one, such as the end, and not text."""
        return token_id in self._special_ids


class Detokenizer:
    """Turns tokens into text as they come; special tokens have none."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the new text, without the bytes of a character that is not complete yet."""
        if self._tokenizer.is_special(token_id):
            return ""
        return self._decoder.decode(self._tokenizer.piece(token_id))


def _read(content: bytes) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(content.decode())
        kind = json.loads(content)["decoder"]["type"]
    except Exception as error:
        # The library raises plain Exception.
        raise ValueError(str(error)) from error
    if kind != "ByteLevel":
        raise ValueError(f"the sandbox's engine reads byte-level tokenizers, this one is {kind}")
    return tokenizer


def _pieces(tokenizer: Tokenizer) -> dict[int, bytes]:
    """Return every token's bytes, decoded from the vocabulary's printable alphabet."""
    alphabet = _alphabet()
    added = tokenizer.get_added_tokens_decoder()
    pieces = {
        number: bytes(alphabet[letter] for letter in token)
        for token, number in tokenizer.get_vocab(with_added_tokens=False).items()
        if number not in added
    }
    return pieces | {number: token.content.encode() for number, token in added.items()}


def _alphabet() -> dict[str, int]:
    """Return the byte behind each letter of a byte-level vocabulary.

    Printable bytes of Latin-1 stand for themselves; the others, in order, for U+0100 onwards.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {
        chr(0x100 + number): byte for number, byte in enumerate(others)
    }


def _environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja as transformers sets it up for chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
