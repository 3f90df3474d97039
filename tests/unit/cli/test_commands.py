"""The list of commands, and what is loaded for help."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from qwenkit.cli.commands import COMMANDS, Later
from qwenkit.cli.main import main

# What takes long to import, and what is behind the commands.
SLOW = {
    "aiohttp",
    "kubernetes",
    "openai",
    "oss2",
    "pydantic",
    "requests",
    "rich",
    "ruamel",
    "numpy",
}
OURS = ("qwenkit.settings", "qwenkit.sandbox", "qwenkit.cluster", "qwenkit.capacity")


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh Python has loaded in the end."""
    text = f"import sys\n{code}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    return set(ran.stdout.splitlines()[-1].split())


def loaded(name: str) -> Any:
    return Later(name, *COMMANDS[name]).load()


def test_the_library_alone_loads_nothing() -> None:
    more = loaded_by("import qwenkit") - loaded_by("import importlib, types")
    assert more == {"qwenkit"}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["deplyo"]])
def test_help_loads_no_command(argv: list[str]) -> None:
    modules = loaded_by(
        f"sys.argv = ['qwenkit', *{argv}]\nfrom qwenkit.cli.main import main\nmain()"
    )
    assert "qwenkit.cli.commands" in modules
    # typer itself reads arguments with pydantic.
    assert SLOW & modules <= ({"pydantic"} if argv == ["deplyo"] else set())
    assert not [name for name in modules if name.startswith(OURS)]
    places = {f"qwenkit.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}
    assert not places & modules


def test_completion_loads_no_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Later, "load", lambda _: pytest.fail("a command was loaded"))
    for name, value in (("WORDS", "qwenkit te"), ("CWORD", "1")):
        monkeypatch.setenv(f"COMP_{name}", value)
    monkeypatch.setenv("_QWENKIT_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.split() == ["teardown"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_the_first_of_its_help(name: str) -> None:
    command, line = loaded(name), COMMANDS[name][1]
    assert command.name == name
    assert line in ("", " ".join(command.help.partition("\n\n")[0].split()))


def groups(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from groups(inner, (*words, name))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in groups(loaded(name), (name,)):
        for option in ("-h", "--help"):
            monkeypatch.setattr(sys, "argv", ["qwenkit", *words, option])
            assert main() == 0
            text = capsys.readouterr().out
            assert text.startswith(f"Usage: qwenkit {' '.join(words)} ")
            assert "Show this message and exit." in text
            assert "..." not in text.partition("Commands:")[2]  # no line is cut


def test_hidden_commands_are_not_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qwenkit", "--help"])
    assert main() == 0
    listed = [
        line.split()[0]
        for line in capsys.readouterr().out.split("Commands:")[1].splitlines()
        if line[2:3].strip()
    ]
    assert listed == [name for name, (_, line) in COMMANDS.items() if line]


def test_what_stands_in_brackets_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qwenkit", "upload", "--help"])
    assert main() == 0
    assert "modelscope:owner/name[@rev]" in capsys.readouterr().out


def test_a_near_miss_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["qwenkit", "deplyo"])
    assert main() == 2
    assert "Did you mean 'deploy'?" in capsys.readouterr().err
