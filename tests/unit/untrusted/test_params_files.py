"""A params file may hold anything: the answer is settings or one typed error, soon and cheap."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenkit import Settings
from qwenkit.errors import NotFound, QwenkitError, SettingsError
from qwenkit.manifests.render import render
from qwenkit.manifests.template import to_yaml

NINES = "9" * 5000
LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
REFUSED = [
    (f"max_model_len: {NINES}", "at most 400 digits"),
    ("gpu_count: 2026-13-45", "valid integer"),
    (f"namespace: {'[' * 5000}", "nested too deeply"),
    ("{" * 100_000, "nested too deeply"),
    ("- " * 5000, "nested too deeply"),
    (LAUGHS + "prompt: *a11", "uses aliases"),
    ("gpu_count: &a 1\nmax_scale: *a", "uses aliases"),
    ("gpu_count: 010", "without leading zeros"),
    ("gpu_count: 0x1", "without leading zeros"),
    ("gpu_count: 1_0", "without leading zeros"),
    ("timeout_s: 1:30", "valid number"),
    ("timeout_s: .inf", "must be a number"),
    ("timeout_s: 1e400", "finite"),
    ("timeout_s: 1e300", "31536000"),
    (f"stable_window: {NINES}s", "duration"),
    ("delete_weights: yes", "write true or false"),
    ("delete_weights: 1", "must be true or false"),
    ("delete_weights: !!bool maybe", "no YAML tag"),
    ("image: 1.5", "write it in quotes"),
    ("<<: {gpu_count: 1}", "not a parameter"),
    ("gpu_count: 1\ngpu_count: 2", "given twice"),
    ("- gpu_count", "must be a mapping"),
    ("!!set {gpu_count}", "must be a mapping"),
    ("image: !!python/object:os.system x", "no YAML tag"),
    ("image: !!binary aGVsbG8=", "no YAML tag"),
    ('image: "\\ud800"', "UTF-8"),
    ("image: \0", "special characters"),
    (f"prompt: {'x' * 100_000}", "65,536 characters"),
    ("#" * 2**19, "more than 262,144 bytes"),
    ("? [a]\n: 1", "not a parameter"),
    ("a: 1\n--- \nb: 2", "line 2"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_no_file_should_hold_is_one_short_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(text.encode())
    began = time.process_time()
    with pytest.raises(SettingsError) as caught:
        Settings.load(path)
    assert time.process_time() - began < 2
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("text", ["prompt: 2026-13-45", "\ufeffprompt: 2026-13-45"])
def test_a_date_is_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text, "utf-8")
    assert Settings.load(tmp_path / "p.yaml").prompt == "2026-13-45"


def test_a_path_may_be_a_folder_a_device_or_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFound, match="directory"):
        Settings.load(tmp_path)
    with pytest.raises(SettingsError, match="params"):
        Settings.load(Path("/dev/zero"))
    writer = subprocess.Popen(["sh", "-c", f"echo gpu_count: 2 > {tmp_path / 'pipe'}"])
    assert Settings.load(tmp_path / "pipe").gpu_count == 2
    assert writer.wait() == 0


@pytest.mark.parametrize("content", ["max_scale: 2".encode("utf-16"), b"\xff\xff", b"a: \x85\x00"])
def test_a_file_in_another_encoding_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match="must be a YAML file"):
        Settings.load(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[1]",
        '{"gpu_count": 1}',
        '{"gpu_count": [[1], "x"]}',
        "[" * 100_000,
        f'{{"gpu_count": [{NINES}, "x"]}}',
        '{"prompt": ["\\ud800", "x"]}',
    ],
)
def test_delivered_parameters_that_are_damaged(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("QWENKIT_PARAMETERS", text)
    with pytest.raises(SettingsError):
        Settings()


def test_a_hostile_file_costs_no_memory(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(LAUGHS)
    code = (
        "import resource; from pathlib import Path; from qwenkit import Settings\n"
        "Settings(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: Settings.load(Path('p.yaml'))\n"
        "except ValueError: raise\n"
        "except Exception: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    # Kilobytes on Linux, bytes on macOS.
    assert int(done.stdout) < 64 * 2**10 * (2**10 if sys.platform == "darwin" else 1)


NAMES = st.sampled_from(sorted(Settings.model_fields))
PIECES = st.sampled_from(["[", "{", "- ", ": ", "&a ", "*a", "!!int ", "\n", "\t", "|\n", "'", '"'])
VALUES = st.one_of(
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(PIECES, max_size=8).map("".join),
    st.sampled_from(["null", "~", "yes", "010", "0o7", "2026-13-45", "1:30", ".nan", "=", "<<"]),
)
FILES = st.lists(st.tuples(NAMES, VALUES), max_size=4).map(
    lambda pairs: "\n".join(f"{name}: {value}" for name, value in pairs)
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=FILES)
def test_any_file_is_settings_or_one_typed_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text(text, "utf-8", "surrogatepass")
    try:
        made = Settings.load(tmp_path / "p.yaml")
        to_yaml(render(made)).encode()
    except QwenkitError:
        pass
