"""From which layer a value comes: one order, whoever reads the settings, and where it is shown."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from qwenkit.errors import SettingsError
from qwenkit.parameters.layers import PARAMETERS
from qwenkit.settings import Settings

# Strongest first; what a run delivers keeps the strength that it had in the run.
LAYERS = ("--set", "params file", "cell", "environment")
VALUES = dict(zip(LAYERS, (11, 12, 13, 14), strict=True))


@pytest.mark.parametrize(
    "given", [c for n in range(5) for c in itertools.combinations(LAYERS, n)], ids=str
)
def test_the_strongest_layer_wins_in_a_notebook_of_a_run(
    given: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "environment" in given:
        monkeypatch.setenv("QWENKIT_MAX_SCALE", str(VALUES["environment"]))
    params = tmp_path / "params.yaml"
    params.write_text(f"max_scale: {VALUES['params file']}\n" if "params file" in given else "")
    text = {"max_scale": str(VALUES["--set"])} if "--set" in given else {}
    command = Settings.load(params, text)
    for name, value in command.deliverable().items():
        monkeypatch.setenv(name, value)
    cell = {"max_scale": VALUES["cell"] if "cell" in given else 3, "print": print}
    found = Settings.of(cell)
    strongest = next((layer for layer in LAYERS if layer in given), None)
    assert found.max_scale == VALUES.get(strongest or "", 3)
    origin = {"cell": "the notebook", "environment": "the environment"}
    shown = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()[1:]]
    if strongest is None:
        assert shown == []
    else:
        (line,) = shown
        assert line[:2] == ["max_scale", str(VALUES[strongest])]
        assert line[2].startswith(origin.get(strongest, strongest))


def test_a_default_that_is_given_is_stronger_than_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QWENKIT_MAX_SCALE", "7")
    for name, value in Settings.load(None, {"max_scale": "3"}).deliverable().items():
        monkeypatch.setenv(name, value)
    assert Settings.of({"max_scale": 5}).max_scale == 3
    assert Settings().max_scale == 3
    assert Settings(max_scale=9).max_scale == 9


def test_an_empty_value_in_a_file_counts_as_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSS_BUCKET", "theirs")
    (tmp_path / "p.yaml").write_text('bucket: ""\nquantization: ""\n')
    found = Settings.load(tmp_path / "p.yaml")
    assert (found.bucket, found.quantization) == ("", "")


def test_variables_that_are_no_parameters_are_ignored() -> None:
    names = {"run": object(), "image": [1], "prompts": "x", "gateway": print, "s": Settings()}
    assert Settings.of(names) == Settings()


@pytest.mark.parametrize(
    ("cell", "name"),
    [({"delete_weights": "false"}, "delete_weights"), ({"gpu_count": True}, "gpu_count")],
)
def test_a_mistyped_cell_is_refused(cell: dict[str, object], name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.of(cell)
    assert caught.value.name == name
    assert "it came from the notebook" in caught.value.fix


@pytest.mark.parametrize("text", ["[1", "[]", '{"max_scale": 3}', '{"nonsense": [1, "x"]}'])
def test_damaged_parameters_of_a_run_are_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PARAMETERS, text)
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert PARAMETERS in str(caught.value.to_dict())


def test_a_bad_value_of_a_run_says_which_layer_it_came_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(PARAMETERS, json.dumps({"max_scale": [-1, "--set"]}))
    with pytest.raises(SettingsError) as caught:
        Settings()
    assert caught.value.fix == "it came from --set"


def test_the_table_lines_up_under_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    Settings.of({"prompt": "杭州", "gpu": "T4-and-more"})
    assert capsys.readouterr().out.splitlines() == [
        "setting  value        from",
        "gpu      T4-and-more  the notebook",
        "prompt   杭州         the notebook",
    ]
