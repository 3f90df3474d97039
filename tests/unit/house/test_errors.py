"""Does every error of the library say what failed, why, and what to do, and hide secrets?"""

from __future__ import annotations

import ast
import base64
import json
import re
import traceback
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from places import ROOT

from qwenkit import errors
from qwenkit.errors import InvalidValue, QwenkitError

PACKAGE = ROOT / "qwenkit"
# These repeat what a webhook, a kubelet, OSS or vLLM says, word for word.
OTHERS_WORDS = (
    "admission/",
    *(
        f"sandbox/{room}/"
        for room in ("controllers", "engine", "hub", "kube", "kubelet", "oss", "traffic")
    ),
)
FIELDS = {InvalidValue: ("name", "value", "rule", "fix"), QwenkitError: ("what", "why", "fix")}
# What a reader of plain English stumbles over, and endings that a one-line text does not have.
NOT_PLAIN = re.compile(
    r"(?i)\b(shall|unto|whilst|hence|thereof|herein|lest|nought|oops|sorry|please|utili[sz]e)\b"
    r"|  |[.!]$|\bcan not\b"
)


def classes() -> list[type[QwenkitError]]:
    """Return every error class that ``qwenkit.errors`` defines."""
    found = [one for one in vars(errors).values() if isinstance(one, type)]
    return [one for one in found if issubclass(one, QwenkitError)]


def families() -> dict[str, tuple[str, ...]]:
    """Return the fields of each error class of the whole package, by the class's name."""
    trees = [ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")]
    defined = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {node.name: [ast.unparse(base) for base in node.bases] for node in defined}
    found = {"InvalidValue": FIELDS[InvalidValue], "QwenkitError": FIELDS[QwenkitError]}
    for _ in bases:
        for name, above in bases.items():
            if name not in found and (known := found.keys() & set(above)):
                found[name] = found[min(known)]
    own = {
        node.name
        for node in defined
        if any(getattr(item, "name", "") == "__init__" for item in node.body)
    }
    # Classes with arguments of their own call their base, and that call is found.
    return {
        name: fields
        for name, fields in found.items()
        if name not in own - {"InvalidValue", "QwenkitError"}
    }


def raised() -> Iterator[tuple[str, str, dict[str, ast.expr]]]:
    """Yield each construction of an error in the library, with its arguments by name."""
    known = families()
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        if where.startswith(OTHERS_WORDS):
            continue
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                continue
            fields = known.get(call.func.id)
            if fields is None or any(isinstance(arg, ast.Starred) for arg in call.args):
                continue
            arguments = dict(zip(fields, call.args, strict=False))
            arguments |= {word.arg: word.value for word in call.keywords if word.arg in fields}
            yield f"{where}:{call.lineno}", call.func.id, arguments


SITES = list(raised())


def literal(node: ast.expr) -> str:
    """Return the fixed text of a string, with ``…`` for each value in it."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    return "…"


def test_the_walk_finds_the_errors() -> None:
    assert len(SITES) > 200
    assert {name for _, name, _ in SITES} >= {"Conflict", "ContentMismatch", "SettingsError"}


def test_every_error_says_what_failed_why_and_what_to_do() -> None:
    """``InvalidValue`` has a fix of its own: to keep to the rule."""
    lacking = []
    for where, name, arguments in SITES:
        needed = ("name", "value", "rule") if "name" in arguments else ("what", "why", "fix")
        lacking += [
            f"{where} {name}: {field}"
            for field in needed
            if field not in arguments or (field != "value" and not literal(arguments[field]))
        ]
    assert lacking == []


def test_every_text_is_plain_english() -> None:
    texts = [
        (where, literal(node))
        for where, _, arguments in SITES
        for field, node in arguments.items()
        if field != "value"
    ]
    assert [(where, text) for where, text in texts if NOT_PLAIN.search(text)] == []


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "secret", ["sk-0123456789abcdef\n", "p@ss'word\"+/=\\ü1234", "AbCd1234EfGh5678"]
)
def test_no_error_shows_a_secret(
    kind: type[QwenkitError], secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    data = secret.strip().encode()
    forms = [
        secret.strip(),
        repr(secret)[1:-1].removesuffix(r"\n"),
        json.dumps(secret.strip())[1:-1],
        quote(secret.strip(), ""),
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
    ]
    for form in forms:
        error = failed(kind, form)
        shown = [str(error), repr(error), "".join(traceback.format_exception(error))]
        shown.append(json.dumps(error.to_dict(), ensure_ascii=False))
        assert not [one for one in shown if form.rstrip("=")[:-2] in one], form


def failed(kind: type[QwenkitError], form: str) -> QwenkitError:
    """Return an error after one of another library, both of which hold a form of a secret."""
    try:
        try:
            raise ValueError(f"Illegal header value {form!r}", {"key": form})
        except ValueError as cause:
            text = f"it has {form} in it"
            raise kind(text, text, text) from cause
    except QwenkitError as error:
        return error


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_type_a_value_a_rule_and_a_fix(kind: type[QwenkitError]) -> None:
    error = kind("the value 7", "a rule", "a fix")
    found = error.to_dict()
    assert found["error"] == kind.__name__
    assert "7" in found["what"]
    assert found["why"]
    assert found["fix"]
    assert type(error).exit_code in (1, 2)
