"""Cold starts as ranges: what makes one longer, and that its steps are those that are measured."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from qwenkit.capacity import loading
from qwenkit.capacity.loading import STEPS, estimate_start, said, weights_seconds, worth
from qwenkit.cluster.diagnosis.server_log import PHASES
from qwenkit.settings import Settings

DATA = json.loads((files(loading.__package__) / "loading.json").read_text("utf-8"))
ROWS = [
    *(row for source in DATA["read_mb_s"].values() for row in source.values()),
    *DATA["steps_s"].values(),
    *(DATA[name] for name in ("pull_mb_s", "new_node_s", "times_faster")),
]

READ = weights_seconds(9.1e9)


def seconds(source: str, strategy: str, readers: int = 1) -> tuple[float, float]:
    step = weights_seconds(10e9, source, strategy, readers=readers)
    return step.low_s, step.high_s


@pytest.mark.parametrize("row", ROWS)
def test_each_constant_is_a_range_with_its_source(row: list[float | str]) -> None:
    low, high, source = row
    assert 0 <= low < high
    assert "estimate" in source or any(sign in source for sign in ("#", "(", "as lazy", "periods"))


@pytest.mark.parametrize("source", DATA["read_mb_s"])
def test_whole_files_are_read_no_slower_than_at_random(source: str) -> None:
    lazy, eager, prefetch = (seconds(source, each) for each in ("lazy", "eager", "prefetch"))
    assert eager == prefetch
    assert eager <= lazy
    assert eager[1] <= lazy[1]


def test_gpus_that_share_a_model_read_it_once_at_best_and_with_prefetch() -> None:
    assert seconds("nas", "prefetch", readers=4) == seconds("nas", "prefetch")
    low, high = seconds("nas", "eager")
    assert seconds("nas", "eager", readers=4) == (low, 4 * high)


def test_the_steps_are_those_that_a_start_is_taken_apart_into() -> None:
    assert [phase.name for phase in PHASES] == list(STEPS[5:-1])
    names = [step.name for step in estimate_start(READ, left_out=()).steps]
    assert names == [name for name in STEPS if name not in ("init containers", "image", "warm-up")]
    eager = [
        step.name for step in estimate_start(READ, left_out=("compile", "graph capture")).steps
    ]
    assert set(names) - set(eager) == {"compile", "graph capture"}


def test_a_start_is_a_range_and_an_image_or_a_node_comes_on_top() -> None:
    start = estimate_start(READ, image_gb=12)
    assert str(start).startswith("35 s to 3.5 min: engine start 4 to 30 s, weights read 20 to 90 s")
    assert "; image 2 to 12 min more unless the node has it; new node 80 s to 15 min" in str(start)
    assert 35 < start.seconds.value < 210
    assert start.seconds.value == estimate_start(READ, image_gb=5).seconds.value


def test_times_are_said_as_roughly_as_they_are_known() -> None:
    assert said(19.8, 91) == "20 to 90 s"
    assert said(52, 294) == "50 s to 5 min"
    assert said(0.3, 4.4) == "0 to 4 s"
    assert said(700, 3000) == "12 to 50 min"
    assert worth(10e9, "ossfs2", "prefetch").startswith("10 GB from ossfs2 take 4 to 35 s, not 20")


@pytest.mark.parametrize(
    ("values", "strategy", "source", "steps"),
    [
        ({}, "lazy", "ossfs2", set()),
        ({"gpu": "V100-32", "gpu_memory_utilization": 0.9}, "lazy", "ossfs2", {"graph capture"}),
        ({"fuse_type": "ossfs", "extra_args": "--enforce-eager"}, "lazy", "ossfs", set()),
        ({"model_source": "hf:Qwen/Qwen3-8B", "gpu": "L20"}, "prefetch", "ossfs2",
         {"compile", "graph capture"}),
        ({"model_source": "hf:Qwen/Qwen3-8B", "gpu": "L20", "storage": "nas"}, "prefetch", "nas",
         {"compile", "graph capture"}),
        ({"model_source": "hf:Qwen/Qwen3-8B", "gpu": "L20", "storage": "pvc",
          "extra_args": "--safetensors-load-strategy=eager --enforce-eager"}, "eager", "disk",
         set()),
    ],
)  # fmt: skip
def test_settings_say_what_a_start_consists_of(
    values: dict[str, object], strategy: str, source: str, steps: set[str]
) -> None:
    settings = Settings(**values)
    start = settings.cold_start
    found = {step.name: step for step in start.steps}
    assert {"compile", "graph capture"} & set(found) == steps
    size = settings.sizes()["model"].weights_bytes
    assert found["weights read"] == weights_seconds(size, source, strategy)
    assert start.image.high_s > 60
