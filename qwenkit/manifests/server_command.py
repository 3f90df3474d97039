"""How a container starts vLLM: its command line as kubelet, shell and vLLM read it.

Sources: the container spec of Kubernetes (``$(NAME)``, ``$$``), Knative's runtime contract
(``PORT``, ``K_*``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from qwenkit.manifests.documents import at, rows
from qwenkit.manifests.shell import MOST_LETTERS, simple_commands
from qwenkit.serving.command_line import UNKNOWN, ServerCommand, read_arguments

_SHELL = re.compile(r"(.*/)?(sh|bash|ash|dash|zsh)")
_SERVER = re.compile(
    r"(-m)?vllm\.entrypoints\.(openai\.)?api_server|.*entrypoints/.*api_server\.py"
)
_CLI = re.compile(r"(.*/)?vllm|(-m)?vllm\.(entrypoints\.cli\.main|scripts)")
# Images whose entry point is vLLM's server, by the last part of their name.
_OWN_ENTRY = re.compile(r"(.*/)?(vllm-openai|vllm-(arm64-)?cpu)[^/]*")
_MOST_NESTED = 5


def container_words(container: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return ``command`` and ``args`` as the kubelet passes them on."""
    known = _environment(container)
    command, args = ([_expanded(w, known) for w in rows(container, k)] for k in ("command", "args"))
    return command, args


def starts_itself(container: Mapping[str, Any]) -> bool:
    """Return whether ``args`` are arguments of vLLM, the image's own entry point."""
    image = str(container.get("image"))
    return not rows(container, "command") and _OWN_ENTRY.fullmatch(image) is not None


def server_command(container: Mapping[str, Any]) -> ServerCommand | None:
    """Return how a container starts vLLM; None if it does not, or that cannot be read."""
    command, args = container_words(container)
    words = ["vllm", "serve", *args] if starts_itself(container) else [*command, *args]
    found = list(_servers(words, _environment(container)))
    return found[0] if len(found) == 1 else None


def shell_text(words: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """Return the text that a shell runs, and its ``$0``, ``$1`` …; None if these words run none."""
    if not words or not _SHELL.fullmatch(words[0]):
        return None
    runs, index = False, 1
    while index < len(words) and words[index][:1] in ("-", "+"):
        option = words[index]
        index += 1 + (not option.startswith("--") and "o" in option.lower())  # -o pipefail
        runs = runs or (not option.startswith("--") and "c" in option)
    return (words[index], words[index + 1 :]) if runs and index < len(words) else None


def _servers(
    words: Sequence[str], known: Mapping[str, str], depth: int = 0, *, passes: bool = True
) -> Iterator[ServerCommand]:
    """Yield each start of vLLM in a command, behind whatever stands before it."""
    for index, word in enumerate(words):
        rest = words[index + 1 :]
        if word in ("echo", "printf"):
            return
        if (script := shell_text(words[index:])) and depth < _MOST_NESTED:
            commands = list(simple_commands(script[0], known, script[1]))
            passes = any({"exec", "trap"} & {*command} for command in commands)
            for command in commands:
                yield from _servers(command, known, depth + 1, passes=passes)
            return
        if _SERVER.fullmatch(word) or (_CLI.fullmatch(word) and rest[:1] == ["serve"]):
            yield read_arguments(rest, passes_signals=passes)
            return


def _environment(container: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the variables of a container's spec and Knative's own; an image may set others."""
    known = dict.fromkeys(("K_SERVICE", "K_REVISION", "K_CONFIGURATION"), UNKNOWN)
    known["PORT"] = str(at(container, "ports", 0, "containerPort") or 8080)
    if rows(container, "envFrom"):
        known = defaultdict(lambda: UNKNOWN, known)
    for variable in rows(container, "env"):
        value = UNKNOWN if at(variable, "valueFrom") else at(variable, "value")
        known[str(at(variable, "name"))] = _expanded("" if value is None else value, known)
    return known


def _expanded(text: object, known: Mapping[str, str]) -> str:
    """Expand ``$(NAME)`` as the kubelet does: an unknown one stays as it is."""

    def value(found: re.Match[str]) -> str:
        with suppress(KeyError):
            return known[found[1]] if found[1] else "$"
        return found[0]

    made = re.sub(r"\$\$|\$\(([^()]+)\)", value, str(text))
    return made if len(made) <= MOST_LETTERS else UNKNOWN
