"""The commands of a shell text, expanded; what only a running shell knows is ``UNKNOWN``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from qwenkit.serving.command_line import UNKNOWN

MOST_LETTERS = 20_000
_ENDS = ";&|()<>\n"
_NAMES = r"""(?P<unread>\$\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|\$\(|`[^`]*`)
    |\$\{(?P<braced>(?:[^{}]|\$\{[^{}]*\})*)\}|\$(?P<name>[A-Za-z_]\w*|[0-9\#?$!-])"""
_QUOTED = re.compile(rf"(?P<dropped>\\\n)|(?P<kept>\\.)|{_NAMES}", re.S | re.X)
_PLAIN = re.compile(
    rf"""(?P<kept>'[^']*'|\\[^\n])|"(?P<double>(?:\\.|[^"\\])*)"|(?P<all>\$[@*])|{_NAMES}
    |(?P<dropped>\\\n|(?<![^\s;&|()])(?:\#[^\n]*|\d(?=[<>])))""",
    re.S | re.X,
)
_HERE = re.compile(r"<<-?\s*(['\"\\]?)(\w+)\1([^\n]*)\n(?:.*\n)*?[ \t]*\2[ \t]*(?=\n|$)")
_BRACED = re.compile(r"(\w+)(?::?([-=+?])(.*))?", re.S)
_ASSIGNED = re.compile(r"(?<![\w$/.-])([A-Za-z_]\w*)=((?:'[^']*'|\"[^\"]*\"|[^\s;&|'\"])*)")


def simple_commands(
    text: str, variables: Mapping[str, str], positional: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Yield the words of each command, keywords included; ``positional`` are ``$0`` and on.

    A variable that is set twice is unknown. Nothing is yielded of a text that cannot be read.
    """
    text = _HERE.sub(r"\3", text) if len(text) <= MOST_LETTERS else "'"
    known = {**variables, **{str(index): word for index, word in enumerate(positional)}}
    known["@"] = shlex.join(positional[1:])
    try:
        for name, value in dict.fromkeys(_ASSIGNED.findall(text)):
            twice = known.get(name) != variables.get(name)
            known[name] = UNKNOWN if twice else " ".join(shlex.split(_expanded(value, known)))
        whole = _expanded(text, known)
        if len(whole) > 5 * MOST_LETTERS:
            return
        lexer = shlex.shlex(whole, posix=True, punctuation_chars=_ENDS)
        lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
        tokens = list(lexer)
    except ValueError:
        return
    words: list[str] = []
    redirected = False
    for token in [*tokens, "\n"]:
        if not token or token.strip(_ENDS):
            words += [] if redirected else [token]
            redirected = False
        elif not (redirected := "<" in token or ">" in token):
            if words:
                yield words
            words = []


def _expanded(text: str, known: Mapping[str, str], pattern: re.Pattern[str] = _PLAIN) -> str:
    def value(found: re.Match[str]) -> str:
        kind = found.lastgroup or ""
        if kind in ("kept", "dropped"):
            return found[0] if kind == "kept" else ""
        if kind == "all" or found[0] in ('"$@"', '"${@}"'):
            return known["@"]
        if kind == "double":
            return f'"{_expanded(found[kind], known, _QUOTED)}"'
        made = UNKNOWN if kind == "unread" else _value(found[kind], known)
        made = made if len(made) < MOST_LETTERS // 5 else UNKNOWN
        if pattern is _QUOTED:
            return re.sub(r'(["\\])', r"\\\1", made)
        return " ".join(shlex.quote(word) for word in made.split())

    return pattern.sub(value, text)


def _value(name: str, known: Mapping[str, str]) -> str:
    """Return the value of ``${name}``; a variable that nobody sets may come from the image."""
    found = _BRACED.fullmatch(name)
    value = known.get(found[1]) if found else UNKNOWN
    if found and (not value if found[2] in ("-", "=") else value and found[2] == "+"):
        return " ".join(shlex.split(_expanded(found[3], known)))
    return UNKNOWN if value is None else value
