r"""What does a container do? Its command line is read, and not executed.

| command line | what happens |
|---|---|
| ``python3 -m vllm.entrypoints.openai.api_server FLAGS`` | the engine, with these flags |
| ``vllm serve MODEL FLAGS`` | the same; an image of vLLM before 0.5.4 has no such program |
| an image of vLLM without a command | the same, with ``args`` as flags |
| ``qwenkit upload``, ``verify`` or ``load-worker``, not in a shell | it really runs: ``own/`` |
| ``qwenkit workshop keep``, not in a shell | the same |
| ``echo``, ``sleep``, ``exit``, ``true``, ``false`` | the same as in a shell |
| ``set``, ``export``, ``cd`` and similar ones | nothing |
| ``sh -c "…"`` with ``;``, ``&&``, ``\|\|``, newlines | one after the other |
| ``PROGRAM & wait $!`` | the program; ``trap '… kill …' TERM`` before it passes SIGTERM on |
| anything else | runs and never listens |

Linux drops a SIGTERM for which process 1 of a container has no handler: a shell without a trap, a
shell that runs a program in the foreground, ``sleep``, and Python until vLLM listens.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qwenkit.sandbox.engine.releases import Release, of_image

_SHELLS = {"sh", "bash", "ash", "dash"}
_PYTHONS = re.compile(r"python3?(\.\d+)?")
_MODULE = "vllm.entrypoints.openai.api_server"
_SILENT = {":", "cd", "export", "set", "true", "ulimit", "umask", "unset"}
# A comment, or a quoted text in which # does not begin one.
_COMMENT = re.compile(r"""('[^']*'|"(?:\\.|[^"\\])*"|\\.)|(?<![^\s;&|])#[^\n]*""", re.DOTALL)
_REDIRECTION = re.compile(r"\s[12]?>(?:&[12]|/dev/\w+)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|([A-Za-z_]\w*))")
_REFERENCE = re.compile(r"\$\$|\$\(([^)]+)\)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*")


@dataclass(frozen=True)
class Command:
    """One command.

    ``verb``: serve, upload, verify, load-worker, keep, echo, sleep, exit, return (its status),
    trap, wait or forever.
    """

    verb: str
    args: tuple[str, ...] = ()
    after: str = ";"
    """What joins it to the command before: ``;``, ``&&`` or ``||``."""
    background: bool = field(default=False, compare=False)
    process_1: bool = field(default=True, compare=False)
    """Whether the program takes the shell's place: by ``exec``, or as the last command."""
    program: str = field(default="", compare=False)
    """``vllm`` for the program of that name, not for the module."""


def read(container: Mapping[str, Any]) -> list[Command]:
    """Return the commands of a container of a pod's spec."""
    env = {one["name"]: one.get("value", "") for one in container.get("env", [])}
    command, args = container.get("command") or [], container.get("args") or []
    release = of_image(container["image"])
    line = [_substituted(word, env) for word in (*command, *args)]
    if not command and release:
        # The newest images' entrypoint is ``vllm serve``, that of the others the module.
        return [Command("serve", tuple(line))]
    if len(line) >= 3 and _base(line[0]) in _SHELLS and line[1] in ("-c", "-ec", "-lc"):
        script = _expand(line[2], env)
        found = [one for each in _script(script) for one in _in_image(each, release)]
        return [*found[:-1], *(replace(last, process_1=True) for last in found[-1:])]
    if line[:3] == ["qwenkit", "workshop", "keep"]:
        return [Command("keep", tuple(line[3:]))]
    if line[:1] == ["qwenkit"] and line[1:2] in (["upload"], ["verify"], ["load-worker"]):
        return [Command(line[1], tuple(line[2:]))]
    return list(_in_image(_command(line, ";"), release))


def _in_image(command: Command, release: Release | None) -> Iterator[Command]:
    """Yield a command, or what a shell says where the image has no such program."""
    if command.program != "vllm" or release is None or release.has_program:
        yield command
        return
    yield Command("echo", ("sh: 1: vllm: not found",), command.after)
    yield Command("exit", ("127",), ";")


def hears_sigterm(command: Command, trap: str, *, listens: bool) -> bool:
    """Return whether SIGTERM ends the command now.

    Args:
        command: what runs.
        trap: the shell's action for SIGTERM; empty if it has none.
        listens: whether the server listens, so that it has set its handler.
    """
    if command.background:
        return "kill" in trap or "exit" in trap
    if not command.process_1 or command.verb == "sleep":
        return False
    if command.verb == "serve":
        return listens
    return command.verb != "forever" or not _PYTHONS.fullmatch(_base(command.args[0]))


def _script(script: str) -> Iterator[Command]:
    text = _COMMENT.sub(lambda found: found[1] or "", script.replace("\\\n", " "))
    text = _REDIRECTION.sub(" ", text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        # An open quote: a shell refuses it.
        yield Command("echo", ("sh: 1: Syntax error: Unterminated quoted string",))
        yield Command("exit", ("2",))
        return
    after, current = ";", list[str]()
    for word in [*words, "\n"]:
        if word.strip() not in ("", ";", "&", "&&", "||") or not (set(word) & set(";&|\n")):
            current.append(word)
            continue
        if current:
            command = _command(current, after)
            shell = replace(command, process_1=current[0] == "exec")
            yield replace(shell, background=True) if word.strip() == "&" else shell
            after, current = ";", []
        if word.strip() in ("&&", "||"):
            after = word.strip()


def _command(words: Sequence[str], after: str) -> Command:
    words = list(words)
    while words and (words[0] == "exec" or _ASSIGNMENT.fullmatch(words[0])):
        words.pop(0)
    if not words or words[0] in _SILENT:
        return Command("return", ("0",), after)
    name, rest = _base(words[0]), tuple(words[1:])
    if _PYTHONS.fullmatch(name) and _MODULE in rest and "-m" in rest:
        return Command("serve", rest[rest.index(_MODULE) + 1 :], after)
    if name == "vllm" and rest[:1] == ("serve",):
        model = ("--model", rest[1]) if rest[1:] and not rest[1].startswith("-") else ()
        return Command("serve", (*model, *rest[2 if model else 1 :]), after, program=name)
    if name == "false":
        return Command("return", ("1",), after)
    if name in ("echo", "exit", "trap", "wait") or (
        name == "sleep" and len(rest) == 1 and _is_time(rest[0])
    ):
        return Command(name, rest, after)
    return Command("forever", tuple(words), after)


def _expand(text: str, env: Mapping[str, str]) -> str:
    """Expand a script as a shell does."""
    return _VARIABLE.sub(lambda found: env.get(found[1] or found[3], "") or found[2] or "", text)


def _substituted(text: str, env: Mapping[str, str]) -> str:
    """Expand a word as Kubernetes does: ``$(NAME)`` if the variable exists, ``$$`` to ``$``."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else env.get(found[1], found[0])

    return _REFERENCE.sub(value, text)


def _is_time(text: str) -> bool:
    return text == "infinity" or bool(re.fullmatch(r"\d+(\.\d+)?s?", text))


def _base(word: str) -> str:
    return word.rpartition("/")[2]
