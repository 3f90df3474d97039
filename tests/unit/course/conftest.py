"""A run of the whole course, as its notebooks record it, written without running them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from qwenkit.cluster.teardown import Leaks, TeardownReport, TeardownStep
from qwenkit.course.record import read_record, record
from qwenkit.course.runner import NotebookResult, RunReport
from qwenkit.settings import Settings
from qwenkit.widgets.svg import Axis, Chart, Plot

BEFORE = {
    "ttft_p50_s": 0.41,
    "ttft_p95_s": 0.63,
    "latency_p95_s": 14.2,
    "goodput_per_s": 1.9,
    "goodput_share": 0.62,
    "tokens_per_second": 402.0,
    "gpu_seconds": 410.0,
    "cost_cny": 1.37,
    "cny_per_million_tokens": 6.2,
    "max_ready": 3,
}
AFTER = {"ttft_p95_s": 0.083, "goodput_share": 0.99, "cny_per_million_tokens": 4.14}
CHECKS = dict.fromkeys(("bucket", "cluster", "gateway", "gpus", "knative", "pvc-flag"), "ok")
RESULTS: dict[str, dict[str, Any]] = {
    "00-preflight": {
        "checks": CHECKS | {"cost": "warn"},
        "gpus": "1 × Tesla-V100-SXM2-16GB, 3 GPUs",
        "kubernetes": "v1.36.2",
    },
    "01-model-to-oss": {
        "bytes_sent": 2719978,
        "words": "杭州西湖",
        "stand_in": "a stand-in of 2.7 MB",
    },
    "02-storage": {"phase": "Bound"},
    "03-deploy": {
        "revision": "qwen-00001",
        "url": "http://qwen.default.example.com",
        "cold_start": {"scheduled": 1.0, "mounted": 2.1, "weights read": 31.0, "ready": 18.0},
        "cold_start_s": 52.1,
        "attributed_percent": 98.7,
    },
    "04-query": {"answer": "西湖位于中国浙江省杭州市"},
    "05-autoscaling": {
        "autoscalers": [
            {
                "autoscaler": "KPA on concurrency",
                "target": "2",
                "gpu_hours": 0.11,
                "within_percent": 97,
            },
            {
                "autoscaler": "HPA on GPU",
                "target": "80 %",
                "gpu_hours": 0.16,
                "within_percent": 58.3,
            },
        ],
    },
    "06-load-test": {
        "start_ready": 1,
        "peak_ready": 3,
        "final_ready": 0,
        "served_by": {f"qwen-00002-deployment-{n}": 210 - n for n in range(3)},
        "agreement_percent": 94.2,
        "parts_at_s": 71.0,
        "parts_why": "the third pod waited for its image",
        "clock": 10.0,
        "requests": {"sent": 630, "ok": 628, "failed": 2, "cancelled": 0},
        "errors": {"connection reset": 2},
        "objective": {"ttft_p95_s": 5.0},
        "measured": BEFORE,
        "predicted": BEFORE | {"ttft_p95_s": 0.59, "gpu_seconds": 396.0},
        "predicted_low": {"ttft_p95_s": 0.3},
        "predicted_high": {"ttft_p95_s": 0.9},
        "changed": {"autoscaling.knative.dev/target": "8"},
        "after": BEFORE | AFTER,
    },
    "90-teardown": {"leaks": []},
}
TAKEN = {"03-deploy": 57.2, "06-load-test": 262.0}


def chart(words: str) -> Chart:
    """Draw a small chart, as the notebooks' are drawn."""
    plot = Plot(Axis(0, 60, 60, 700), Axis(0, 4, 150, 30))
    plot.grid("ready replicas", whole=True)
    plot.foot("seconds")
    plot.steps([(0, 1), (20, 3), (55, 0), (60, 0)], "#2f81f7", words)
    return Chart(plot.parts, 190, words)


Whole = Callable[..., RunReport]
PICTURES = {
    "03-deploy": {"cold start": chart("cold start")},
    "05-autoscaling": {"autoscalers": chart("autoscalers")},
    "06-load-test": {name: chart(name) for name in ("load against replicas", "latency")},
}


def save(folder: Path, name: str, *outputs: Any) -> None:
    """Write an executed notebook."""
    cells = [
        new_markdown_cell(f"# {name}", id="title"),
        new_code_cell("record()", id="result", outputs=list(outputs)),
    ]
    nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")


def whole(folder: Path, **more: Any) -> RunReport:
    """Write the executed notebooks of a whole run; return its report."""
    folder.mkdir(exist_ok=True)
    results = []
    for name, given in RESULTS.items():
        made = record(pictures=PICTURES.get(name), **given)
        save(folder, name, new_output("execute_result", data=made._repr_mimebundle_()))
        seconds, waited = TAKEN.get(name, 1.9), {"upload": 1.5} if name.startswith("01") else {}
        found = read_record(folder / f"{name}.ipynb")["result"]  # keys sorted, as nbformat writes
        results.append(NotebookResult(name, f"{name} title", True, seconds, waited, found))
    told: dict[str, Any] = {
        "id": folder.name,
        "folder": folder,
        "context": "sandbox",
        "seconds": 334.0,
        "notebooks": tuple(results),
        "teardown": TeardownReport((TeardownStep("ksvc qwen", True, "deleted"),), 1.0),
        "leaks": Leaks(),
        "problems": (),
        "interrupted": False,
        "began": "2026-11-27T16:25:38+00:00",
        "settings": Settings().model_dump(mode="json"),
    }
    return RunReport(**told | more)


@pytest.fixture
def whole_run() -> Whole:
    """Return what writes the executed notebooks of a whole run into a folder."""
    return whole
