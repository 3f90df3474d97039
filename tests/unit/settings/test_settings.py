"""One name, four layers, strict types: what a parameter may be, and what is said if it is not."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.credentials import Credentials
from qwenkit.errors import NotFound, SettingsError
from qwenkit.parameters.reading import read_mapping
from qwenkit.settings import Settings

# Values that are no text in YAML and Python, by the type of a field.
WRONG = {
    str: [1, 1.5, True, None, ["a"], {"a": 1}],
    bool: ["false", "true", 0, 1, None, "no"],
    int: ["1", 1.5, 3.0, True, None, math.nan],
    float: ["1", True, None, math.nan, math.inf, -math.inf],
}


def fields_of(kind: type) -> list[str]:
    return [name for name, f in Settings.model_fields.items() if f.annotation is kind]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for kind, values in WRONG.items()
        for name in fields_of(kind)
        for value in values
    ],
)
def test_typed_values_are_taken_as_they_are(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**{name: value})
    assert (caught.value.name, caught.value.exit_code) == (name, 2)
    assert caught.value.rule
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("given_", "rule", "fix"),
    [
        ({"delete_weights": "false"}, "boolean", "without quotes"),
        ({"namespace": 123}, "string", "in quotes"),
        ({"min_scale": None}, "integer", "leave it out"),
        ({"namespace": "Default"}, "DNS-1123", ""),
        ({"run": "a" * 64}, "DNS-1123", ""),
        ({"volume": "-a"}, "DNS-1123", ""),
        ({"service": "1qwen"}, "DNS-1035", ""),
        ({"service": ""}, "DNS-1035", ""),
        ({"min_scale": 5}, "must not exceed max_scale=3", ""),
        ({"min_scale": -1}, "greater than or equal to 0", ""),
        ({"scale_metric": "cpu"}, "'concurrency' or 'rps'", ""),
        ({"bucket": "A_B"}, "3 to 63", ""),
        ({"prefix": "/"}, "folder inside the bucket", ""),
        ({"prefix": "a/../b"}, "folder inside the bucket", ""),
        ({"mount_path": "models"}, "absolute path", ""),
        ({"mount_path": "//"}, "absolute path", ""),
        ({"oss_endpoint": "http://a b"}, "must be a host", ""),
        ({"gateway": "http://user:pass@host"}, "must be a host", ""),
        ({"stable_window": "60"}, "with a unit", ""),
        ({"request_timeout_s": 0}, "greater than or equal to 1", ""),
        ({"ready_timeout_s": math.inf}, "finite", ""),
        ({"upload_timeout_s": 0.0}, "greater than 0", ""),
        ({"servce": "x"}, "is not a parameter", "did you mean service?"),
        ({"xyzzy": "x"}, "is not a parameter", "`qwenkit settings`"),
    ],
)
def test_a_broken_rule_is_named_with_its_fix(given_: dict[str, Any], rule: str, fix: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**given_)
    assert rule in caught.value.why
    assert fix in caught.value.fix


def test_what_is_allowed_stays_as_it_was_given() -> None:
    kept = {
        "max_scale": 0,
        "min_scale": 7,
        "scale_target": 2,
        "initial_scale": None,
        "quantization": "",
        "scale_down_delay": "1m30s",
        "oss_endpoint": "http://127.0.0.1:9000",
        "context": "user@cluster/with:odd names",
    }
    chosen = Settings(**kept)
    assert {name: getattr(chosen, name) for name in kept} == kept
    assert Settings(prefix="/a/b/").prefix == "a/b"
    assert Settings(mount_path="//a//b/").mount_path == "/a/b"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("delete_weights", "TRUE", True),
        ("max_scale", "10", 10),
        ("max_scale", "3.0", 3),
        ("scale_target", ".5", 0.5),
        ("scale_target", "1e1", 10.0),
        ("namespace", "0123", "0123"),
        ("quantization", "", ""),
        ("initial_scale", "", None),
        ("initial_scale", "null", None),
        ("scale_down_delay", "", None),
        ("scale_metric", "rps", "rps"),
        ("command", "sleep 1; echo a=b", "sleep 1; echo a=b"),
    ],
)
def test_text_is_read_by_the_type_of_its_field(name: str, text: str, value: Any) -> None:
    found = Settings.parse(name, text, "--set")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("delete_weights", "1", "true or false"),
        ("delete_weights", "yes", "true or false"),
        ("max_scale", "0123", "leading zeros"),
        ("max_scale", "1_0", "underscores"),
        ("max_scale", "three", "integer"),
        ("max_scale", "", "integer"),
        ("initial_scale", "x", "integer"),
        ("scale_target", "007.5", "leading zeros"),
        ("scale_metric", "cpu", "'concurrency' or 'rps'"),
    ],
)
def test_text_that_is_no_value_says_where_it_came_from(name: str, text: str, rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(name, text, "--set")
    assert rule in caught.value.why
    assert "--set" in caught.value.fix


@given(st.text(max_size=12))
def test_no_text_is_a_crash_or_an_infinity(text: str) -> None:
    for name in ("max_scale", "scale_target", "delete_weights", "initial_scale", "scale_metric"):
        try:
            chosen = Settings.load(text={name: text})
        except SettingsError:
            continue
        value = getattr(chosen, name)
        assert value is None or isinstance(value, str) or math.isfinite(value)


@given(st.floats(), st.sampled_from(fields_of(float)))
def test_every_number_is_finite(number: float, name: str) -> None:
    try:
        chosen = Settings(**{name: number})
    except SettingsError:
        return
    assert math.isfinite(getattr(chosen, name))


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_environment_is_read_by_type() -> None:
    with environment(
        QWENKIT_MAX_SCALE="5",
        QWENKIT_DELETE_WEIGHTS="true",
        QWENKIT_NAMESPACE="team-a",
        QWENKIT_INITIAL_SCALE="",
        OSS_BUCKET="theirs",
    ):
        chosen = Settings()
    assert (chosen.max_scale, chosen.delete_weights, chosen.namespace) == (5, True, "team-a")
    assert (chosen.initial_scale, chosen.bucket) == (None, "theirs")
    assert chosen.model_fields_set == {"max_scale", "delete_weights", "namespace", "bucket"}


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("bucket", "OSS_BUCKET"),
        ("oss_endpoint", "OSS_ENDPOINT"),
        ("oss_region", "OSS_REGION"),
        ("hf_endpoint", "HF_ENDPOINT"),
    ],
)
def test_our_own_variable_is_stronger_than_a_shared_one(name: str, shared: str) -> None:
    with environment(**{shared: "cn-shared", name.upper() + "_": "x"}):
        assert getattr(Settings(), name) == "cn-shared"
        with environment(**{f"QWENKIT_{name.upper()}": "cn-ours"}):
            assert getattr(Settings(), name) == "cn-ours"
            assert getattr(Settings(**{name: "cn-given"}), name) == "cn-given"


def test_a_variable_without_our_prefix_is_not_ours() -> None:
    with environment(BUCKET="not-asked", NAMESPACE="not-asked", GATEWAY="http://not.asked"):
        chosen = Settings()
    assert (chosen.bucket, chosen.namespace, chosen.gateway) == ("", "default", "")


def test_empty_is_not_set_but_for_the_flags_that_can_be_left_out() -> None:
    with environment(QWENKIT_MAX_SCALE="", QWENKIT_QUANTIZATION="", QWENKIT_DTYPE=""):
        chosen = Settings()
        assert (chosen.max_scale, chosen.quantization, chosen.dtype) == (3, "", "")
        assert Settings(dtype="half").dtype == "half"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QWENKIT_MAX_SCALE", "many", "the environment"),
        ("QWENKIT_MAX_SCALE", "-1", "the environment"),
        ("QWENKIT_NAMESPCE", "team-a", "did you mean namespace?"),
        ("OSS_BUCKET", "A_B", "the environment"),
    ],
)
def test_a_bad_variable_is_refused(variable: str, value: str, said: str) -> None:
    with environment(**{variable: value}), pytest.raises(SettingsError) as caught:
        Settings()
    assert said in caught.value.fix


def test_a_variable_of_somebody_else_s_is_left_alone() -> None:
    with environment(QWENKIT_CI_MACHINE="x", QWENKIT_HOME="y"):
        assert Settings().namespace == "default"


def params(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text, "utf-8")
    return path


def test_the_later_layer_wins(tmp_path: Path) -> None:
    path = params(tmp_path, "max_scale: 4\nnamespace: from-file\ninitial_scale: null\n")
    with environment(QWENKIT_MAX_SCALE="5", QWENKIT_GPU="A10", QWENKIT_INITIAL_SCALE="2"):
        chosen = Settings.load(path, {"namespace": "from-set"}, min_scale=1)
    assert (chosen.max_scale, chosen.namespace, chosen.min_scale) == (4, "from-set", 1)
    assert (chosen.gpu, chosen.initial_scale, chosen.volume) == ("A10", None, "llm-model")
    assert Settings.load(None, {"max_scale": "6"}, max_scale=7).max_scale == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_scale: '3'", "params file"),
        ("max_scale: -1", "params file"),
        ("namespace: 0123", "in quotes"),
        ("servce: qwen", "did you mean service?"),
        ("1: 2", "`qwenkit settings`"),
        ("delete_weights: no", "without quotes"),
        ("namespace: [a]", "params file"),
    ],
)
def test_a_bad_line_of_a_params_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(params(tmp_path, text))
    assert said in caught.value.fix


@pytest.mark.parametrize("text", ["- a\n", "just text", "a: [", "a: 1\na: 2\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_mapping(params(tmp_path, text), Settings.model_fields)
    assert "params.yaml" in str(caught.value) or "parameter" in str(caught.value)


def test_files_that_hold_nothing_or_cannot_be_read(tmp_path: Path) -> None:
    assert read_mapping(params(tmp_path, "# only words\n"), Settings.model_fields) == {}
    with pytest.raises(NotFound, match=r"none\.yaml"):
        read_mapping(tmp_path / "none.yaml", Settings.model_fields)
    with pytest.raises(NotFound):
        read_mapping(tmp_path, Settings.model_fields)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SettingsError, match=r"binary\.yaml"):
        read_mapping(binary, Settings.model_fields)


def test_a_mistake_in_set_names_set() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(text={"min_scale": "-2"})
    assert caught.value.fix.endswith("it came from --set")
    with pytest.raises(SettingsError, match="servce"):
        Settings.load(text={"servce": "x"})


def test_deadlines_fall_back_to_the_default_one() -> None:
    chosen = Settings(timeout_s=100.0, scale_timeout_s=5.0)
    assert [chosen.seconds(step) for step in ("ready", "scale", "teardown")] == [100, 5, 100]
    assert chosen.seconds("upload") == 4 * 3600
    assert Settings(upload_timeout_s=9.0).seconds("upload") == 9


def test_the_cluster_s_endpoint_is_its_own_or_ours() -> None:
    assert Settings(oss_endpoint="a.com").cluster_oss_endpoint == "a.com"
    both = Settings(oss_endpoint="a.com", oss_internal_endpoint="b.com")
    assert both.cluster_oss_endpoint == "b.com"


def test_settings_do_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().run = "other"


KEYS = {
    "OSS_ACCESS_KEY_ID": "LTAI-my-id",
    "OSS_ACCESS_KEY_SECRET": "my-very-secret",
    "OSS_SESSION_TOKEN": "my-token",
}


def test_credentials_never_print() -> None:
    with environment(**KEYS):
        found = Credentials.required()
        chosen = Settings()
    shown = f"{found} {found!r} {found.model_dump()} {found.model_dump_json()} {chosen!r}"
    assert not any(value in shown for value in KEYS.values())
    assert found.access_key_secret.get_secret_value() == "my-very-secret"


@pytest.mark.parametrize("missing", ["OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"])
@pytest.mark.parametrize("left", ["", "  "])
def test_a_missing_key_is_named_and_no_other_is_shown(missing: str, left: str) -> None:
    with environment(**KEYS | {missing: left}), pytest.raises(SettingsError) as caught:
        Credentials.required()
    assert missing in str(caught.value)
    assert "qwenkit sandbox env" in caught.value.fix
    assert not any(value in str(caught.value.to_dict()) for value in KEYS.values())


def test_a_folder_of_this_machine_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own-model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Settings(model_source="own-model").model_source == str(tmp_path / "own-model")
    assert Settings(model_source="hf:own/own-model").model_source == "hf:own/own-model"
    assert Settings(model_source="no-model").model_source == "no-model"
