"""The command line that starts vLLM: one text for ``sh -c``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from qwenkit.errors import SettingsError
from qwenkit.manifests.scaling import annotation_text
from qwenkit.serving.profile import ServingProfile
from qwenkit.settings import Settings

PORT = 8080
# $! is the server, $? its status. A second SIGTERM is passed on like the first.
_PASS_ON = "trap 'kill $!; wait $!; exit $?' TERM"
_MODULE = ("python3", "-m", "vllm.entrypoints.openai.api_server")


def command_line(settings: Settings, profile: ServingProfile) -> str:
    """Return the command of the image, with the flags of the profile and ``extra_args``.

    The shell stays process 1 and passes SIGTERM on: Linux drops a signal for which process 1 has no
    handler, and Python has none while it loads a model. ``wait`` ends with the server's status.

    Raises:
        SettingsError: ``extra_args`` has an unclosed quote.
    """
    if settings.command:
        return settings.command
    extra = _extra(settings)
    server = [*_arguments(settings, profile), *_flags(settings, profile, extra), *extra]
    return f"{_PASS_ON}; {_joined(server)} & wait $!"


def as_documented(settings: Settings) -> str:
    """Return the page's command, nothing added."""
    if settings.command:
        return settings.command
    served = ("--served-model-name", settings.served_model_name, "--model", settings.mount_path)
    quantization = ["--quantization", settings.quantization] if settings.quantization else []
    words = ["--port", str(PORT), "--trust-remote-code", *served, *_share(settings), *quantization]
    return _joined([*_MODULE, *words, f"--max-model-len={settings.max_model_len}"])


def _arguments(settings: Settings, profile: ServingProfile) -> list[str]:
    """Return the page's arguments as this image takes them, and where the model needs them."""
    serves = profile.image.version >= (0, 6)
    start = ["vllm", "serve", settings.mount_path] if serves else [*_MODULE]
    model = [] if serves else ["--model", settings.mount_path]
    method = profile.value("quantization")
    return [
        *start,
        *("--port", str(PORT)),
        *(["--trust-remote-code"] if profile.value("--trust-remote-code") else []),
        *("--served-model-name", settings.served_model_name),
        *model,
        *(_share(settings) if settings.gpu_count else []),
        *(["--quantization", method] if method else []),
        f"--max-model-len={profile.max_model_len}",
    ]


def _share(settings: Settings) -> list[str]:
    return ["--gpu-memory-utilization", annotation_text(settings.gpu_memory_utilization)]


def _flags(settings: Settings, profile: ServingProfile, extra: list[str]) -> list[str]:
    """Return the flags that the page lacks; one that ``extra_args`` gives is not repeated."""
    valued = {
        "--dtype": profile.value("dtype"),
        "--tensor-parallel-size": str(settings.gpu_count) if settings.gpu_count > 1 else "",
    }
    for flag in ("--safetensors-load-strategy", "--chat-template"):
        valued[flag] = profile.value(flag)
    given = {word.partition("=")[0] for word in extra}
    words = [[flag, value] for flag, value in valued.items() if value and flag not in given]
    if profile.value("--enforce-eager") and "--enforce-eager" not in given:
        words.append(["--enforce-eager"])
    return [word for pair in words for word in pair]


def _extra(settings: Settings) -> list[str]:
    try:
        return shlex.split(settings.extra_args)
    except ValueError as error:
        raise SettingsError(
            "extra_args", settings.extra_args, f"cannot be split into arguments: {error}"
        ) from error


def _joined(arguments: Iterable[str]) -> str:
    # The kubelet expands $(NAME) in commands even inside shell quotes; $$ is its escape.
    return shlex.join(arguments).replace("$", "$$")
