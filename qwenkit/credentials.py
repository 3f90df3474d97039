"""Keys and tokens, from the environment only; they are never printed.

They go into headers, so what cannot be in a header is refused here, by name and without the value.
"""

from __future__ import annotations

import os
import re
from typing import Self

from pydantic import SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from qwenkit.errors import SettingsError

# The environment variable with the token of each hub.
HUB_TOKENS = {"modelscope": "MODELSCOPE_API_TOKEN", "hf": "HF_TOKEN"}


_WRONG = re.compile(r"[^\x21-\x7e]")


class _NotShown:
    """Stands for a value that is wrong and secret."""

    def __repr__(self) -> str:
        return "its value, which is not shown,"


def clean(variable: str, value: str) -> str:
    """Return a key or token without the blanks around it, such as a final newline.

    Raises:
        SettingsError: it holds a character that no key has; names ``variable``, never the value.
    """
    value = value.strip()
    found = _WRONG.search(value)
    if found is None:
        return value
    character = ord(found[0])
    rule = f"character {found.start() + 1} is U+{character:04X}; a key has only visible ASCII ones"
    fix = f"copy the key again: export {variable}=…"
    raise SettingsError(variable, _NotShown(), rule, fix)


def from_environment(variable: str) -> str:
    """Return a key or token of the environment, empty if it is not set.

    Raises:
        SettingsError: it holds a character that no key has.
    """
    return clean(variable, os.environ.get(variable, ""))


class Credentials(BaseSettings):
    """OSS keys."""

    model_config = SettingsConfigDict(env_prefix="OSS_", extra="ignore", frozen=True)

    access_key_id: SecretStr = SecretStr("")
    access_key_secret: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")

    @field_validator("*")
    @classmethod
    def _clean(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        return SecretStr(clean(f"OSS_{info.field_name}".upper(), value.get_secret_value()))

    @classmethod
    def required(cls) -> Self:
        """Read the keys.

        Raises:
            SettingsError: a key is missing or cannot be one; names the variable, never a value.
        """
        found = cls()
        for variable, value in (
            ("OSS_ACCESS_KEY_ID", found.access_key_id),
            ("OSS_ACCESS_KEY_SECRET", found.access_key_secret),
        ):
            if not value.get_secret_value():
                raise SettingsError(
                    variable,
                    "",
                    "OSS credentials come from the environment and this variable is not set",
                    "export OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; for the sandbox: "
                    'eval "$(qwenkit sandbox env)"',
                )
        return found


def hub_token(source: str) -> dict[str, SecretStr]:
    """Return the token of a source's hub by the name of its variable; empty if there is none.

    Raises:
        SettingsError: it holds a character that no token has.
    """
    variable = HUB_TOKENS.get(source.partition(":")[0], "")
    token = from_environment(variable)
    return {variable: SecretStr(token)} if token else {}
