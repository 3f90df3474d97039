"""Keys and tokens, from the environment only; they are never printed."""

from __future__ import annotations

import os
from typing import Self

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from qwenkit.errors import SettingsError

# The environment variable with the token of each hub.
HUB_TOKENS = {"modelscope": "MODELSCOPE_API_TOKEN", "hf": "HF_TOKEN"}


class Credentials(BaseSettings):
    """OSS keys."""

    model_config = SettingsConfigDict(env_prefix="OSS_", extra="ignore", frozen=True)

    access_key_id: SecretStr = SecretStr("")
    access_key_secret: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")

    @classmethod
    def required(cls) -> Self:
        """Read the keys.

        Raises:
            SettingsError: a key is missing; names the variable, never a value.
        """
        found = cls()
        for variable, value in (
            ("OSS_ACCESS_KEY_ID", found.access_key_id),
            ("OSS_ACCESS_KEY_SECRET", found.access_key_secret),
        ):
            if not value.get_secret_value().strip():
                raise SettingsError(
                    variable,
                    "",
                    "OSS credentials come from the environment and this variable is not set",
                    "export OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET; for the sandbox: "
                    'eval "$(qwenkit sandbox env)"',
                )
        return found


def hub_token(source: str) -> dict[str, SecretStr]:
    """Return the token of a source's hub by the name of its variable; empty if there is none."""
    variable = HUB_TOKENS.get(source.partition(":")[0], "")
    token = os.environ.get(variable, "").strip()
    return {variable: SecretStr(token)} if token else {}
