"""No secret leaves in any form: stripped or refused on the way in, hidden on the way out."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qwenkit.cli import main as command_line
from qwenkit.credentials import HUB_TOKENS, Credentials, from_environment, hub_token
from qwenkit.errors import InvalidValue, NotFound, QwenkitError, SettingsError, scrubbing
from qwenkit.errors.scrubbing import SECRET_VARIABLES, holds_secret, remember, scrub
from qwenkit.inference.client import Server
from qwenkit.weights.hub.http_stream import HubSession

KEY = "sk-Zq7+/x=4711&Geheim"
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "repr of repr": lambda text: repr(repr(text)),
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "URL": lambda text: quote(text, safe=""),
    "path": quote,
    "form": quote_plus,
    "lower-case URL": lambda text: re.sub("%..", lambda m: m[0].lower(), quote(text, safe="")),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "URL-safe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "basic": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
    "in a header": lambda text: repr(b"Bearer " + text.encode() + b"\n"),
    "shell": shlex.quote,
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRET_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(scrubbing, "_remembered", set())


def chain(error: BaseException) -> str:
    """Everything that an error, its causes and its attributes show."""
    said = "".join(traceback.format_exception(error))
    seen: BaseException | None = error
    while seen is not None:
        said += f"{seen!s} {seen!r} {seen.args!r} {vars(seen)!r}"
        seen = seen.__cause__ or seen.__context__
    return said


@pytest.mark.parametrize("variable", SECRET_VARIABLES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_secret_is_hidden(
    variable: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, KEY + "\n")
    text = f"before {FORMS[form](KEY)} after"
    shown = scrub(text)
    assert KEY not in shown
    assert "Geheim" not in shown
    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert "***" in shown
    assert holds_secret(text.encode())


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(secret="00000'\x1f0", form="repr of repr")
@given(secret=st.text(st.characters(codec="utf-8"), min_size=8), form=st.sampled_from(list(FORMS)))
def test_any_secret_is_hidden_in_any_form(secret: str, form: str) -> None:
    if len(secret.strip()) < 8:
        return
    scrubbing._remembered.clear()
    remember(secret)
    inner = FORMS[form](secret).strip("'\"")
    assert inner not in scrub(f"<{FORMS[form](secret)}>") or inner == "***"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET http://b.oss/x?Signature=ab%2Fc&Expires=1", "Expires=1"),
        ("http://b/x?x-oss-signature=0a1b&x-oss-expires=9", "x-oss-expires=9"),
        ("http://b/x?security-token=CAIS4711&y=2", "&y=2"),
        ("https://me:pass-4711@proxy:8080/", "proxy:8080/"),
        ("<SignatureProvided>0a1b</SignatureProvided>", "</SignatureProvided>"),
        ("{'SignatureProvided': '0a1b', 'a': 1}", "', 'a': 1}"),
        ("Authorization: Bearer eyJhb.4711.x", "Authorization: Bearer ***"),
        ("b'OSS LTAI:0123456789abcdefABCDEF+/='", "OSS LTAI:***"),
    ],
)
def test_what_authorizes_a_request_is_hidden_whoever_knows_it(text: str, left: str) -> None:
    shown = scrub(text)
    assert left in shown
    assert "***" in shown
    for part in ("ab%2Fc", "0a1b", "CAIS4711", "pass-4711", "eyJhb", "abcdefABC"):
        assert part not in shown


def test_plain_words_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    for text in (
        "none of the tests: Basic authentication, a bearer token=yes, https://host:6443/x@v1",
        "hf:owner/name@rev oss://bucket/prefix?x=1 modelscope:qwen/Qwen-7B-Chat-Int8",
    ):
        assert scrub(text) == text


def test_an_error_hides_secrets_in_all_its_parts_and_causes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)

    class Theirs(Exception):
        def __init__(self, text: str) -> None:
            super().__init__(text, ValueError(text))
            self.body = text

    def fail() -> None:
        try:
            try:
                raise OSError(5, f"deep {KEY}")
            except OSError as inner:
                raise Theirs(f"Illegal header value {f'Bearer {KEY}'.encode()!r}") from inner
        except Theirs as error:
            raise NotFound(f"what {error}", str(error), KEY, evidence=[KEY], m={KEY: 1}) from error

    with pytest.raises(NotFound) as caught:
        fail()
    caught.value.context["later"] = [KEY]
    shown = str(caught.value) + json.dumps(caught.value.to_dict())
    del caught.value.context["later"]
    assert "Geheim" not in shown + chain(caught.value)
    invalid = InvalidValue("name", {"a": KEY * 40}, KEY)
    assert "Geheim" not in chain(invalid) + json.dumps(invalid.to_dict())


WRONG = [
    "sk-4711-\x01geheim",
    "sk-4711-ge\nheim",
    "sk-4711-g\u00e9heim",
    "sk-4711-ge heim",
    "\u4e2d",
]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    ("variable", "use"),
    [
        ("OPENAI_API_KEY", lambda: Server("http://127.0.0.1:9", "h", model="m").ask("hi")),
        ("HF_TOKEN", lambda: hub_token("hf:a/b")),
        ("MODELSCOPE_API_TOKEN", lambda: hub_token("modelscope:a/b")),
        ("HF_TOKEN", lambda: HubSession("http://127.0.0.1:9", "hf").json("/x", {}, "x", ends=1e18)),
        ("OSS_ACCESS_KEY_SECRET", Credentials.required),
        ("OSS_SESSION_TOKEN", Credentials.required),
    ],
)
def test_a_value_that_is_no_key_is_refused_by_name(
    variable: str, use: Callable[[], object], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.setenv(name, "a-good-value")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as caught:
        use()
    assert "heim" not in chain(caught.value) + json.dumps(caught.value.to_dict())
    assert "copy" in caught.value.fix


@pytest.mark.parametrize("variable", [*HUB_TOKENS.values(), "OPENAI_API_KEY"])
def test_blanks_around_a_key_are_no_part_of_it(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f" \t{KEY}\r\n")
    assert from_environment(variable) == KEY


def test_an_unforeseen_error_of_the_command_line_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def fail(**_: object) -> None:
        raise RuntimeError(f"Illegal header value {KEY!r}")

    monkeypatch.setattr(command_line, "_command_line", lambda: fail)
    monkeypatch.setattr(sys, "argv", ["qwenkit"])
    assert command_line.main() == 1
    said = capsys.readouterr().err
    assert "RuntimeError: Illegal header value '***'" in said
    assert "Geheim" not in said


def test_every_error_class_scrubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_SESSION_TOKEN", KEY)
    ours = [kind for kind in QwenkitError.__subclasses__() if kind.__module__ == "qwenkit.errors"]
    assert len(ours) > 8
    for kind in ours:
        error = kind(KEY, KEY, KEY)
        assert "Geheim" not in chain(error) + json.dumps(error.to_dict(), default=str)


def test_an_exception_without_a_secret_keeps_its_words() -> None:
    for error in (OSError(2, "no file"), ConnectionRefusedError("nobody there"), TimeoutError()):
        before = str(error), repr(error)
        scrubbing.scrub_chain(error)
        assert (str(error), repr(error)) == before


def test_a_secret_in_a_group_of_exceptions_is_hidden() -> None:
    remember(KEY)
    group = ExceptionGroup("several", [ValueError(f"wrong: {KEY}")])
    scrubbing.scrub_chain(group)
    assert KEY not in "".join(traceback.format_exception(group))
