"""The command line that starts vLLM: one text for ``sh -c``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from qwenkit.capacity.gpu import gpu_of_label
from qwenkit.capacity.memory import graphs_fit
from qwenkit.errors import SettingsError
from qwenkit.manifests.scaling import annotation_text
from qwenkit.settings import Settings

PORT = 8080
# $! is the server, $? its status. A second SIGTERM is passed on like the first.
_PASS_ON = "trap 'kill $!; wait $!; exit $?' TERM"
_SERVER = ("python3", "-m", "vllm.entrypoints.openai.api_server")


def command_line(settings: Settings) -> str:
    """Return the page's command with the flags that the GPU needs and ``extra_args``.

    The shell stays process 1 and passes SIGTERM on: Linux drops a signal for which process 1 has no
    handler, and Python has none while it loads a model. ``wait`` ends with the server's status.

    Raises:
        SettingsError: ``extra_args`` has an unclosed quote.
    """
    if settings.command:
        return settings.command
    server = _joined([*_page_arguments(settings), *_gpu_flags(settings), *_extra(settings)])
    return f"{_PASS_ON}; {server} & wait $!"


def as_documented(settings: Settings) -> str:
    """Return the page's command, nothing added."""
    return settings.command or _joined(_page_arguments(settings))


def _page_arguments(settings: Settings) -> list[str]:
    quantization = ["--quantization", settings.quantization] if settings.quantization else []
    return [
        *_SERVER,
        *("--port", str(PORT)),
        "--trust-remote-code",
        *("--served-model-name", settings.served_model_name),
        *("--model", settings.mount_path),
        *("--gpu-memory-utilization", annotation_text(settings.gpu_memory_utilization)),
        *quantization,
        f"--max-model-len={settings.max_model_len}",
    ]


def _gpu_flags(settings: Settings) -> list[str]:
    flags = ["--dtype", settings.dtype] if settings.dtype else []
    if settings.gpu_count > 1:
        flags += ["--tensor-parallel-size", str(settings.gpu_count)]
    gpu = gpu_of_label(settings.gpu)
    crowded = gpu is not None and not graphs_fit(gpu, settings.gpu_memory_utilization)
    if crowded and "--enforce-eager" not in _extra(settings):
        flags.append("--enforce-eager")
    return flags


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
