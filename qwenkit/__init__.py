"""qwenkit: Qwen from a model hub to OSS, served by vLLM on Knative, scaled by real load.

    from qwenkit import Settings, deploy, find_server
    s = Settings()
    deploy(s)
    find_server(s).ask("杭州西湖")

These names are what notebooks and scripts use, in the order of the course. Each is loaded when it
is first used (PEP 562), so that ``import qwenkit`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from types import FunctionType

__version__ = "0.1.0"

_MODULES = {  # in the order of the course
    "Settings": "qwenkit.settings",
    "doctor": "qwenkit.steps",
    "Cluster": "qwenkit.cluster.client",
    "show_table": "qwenkit.widgets.display",
    "Weights": "qwenkit.in_cluster.weights",
    "TransferProgress": "qwenkit.widgets.transfer_progress",
    "render": "qwenkit.steps",
    "show_yaml": "qwenkit.widgets.display",
    "lint": "qwenkit.manifests.lint",
    "apply": "qwenkit.steps",
    "wait_bound": "qwenkit.cluster.deploy",
    "deploy": "qwenkit.steps",
    "cold_start": "qwenkit.cluster.diagnosis.cold_start",
    "cold_start_chart": "qwenkit.widgets.cold_start_chart",
    "explain": "qwenkit.steps",
    "find_server": "qwenkit.steps",
    "live_scaling": "qwenkit.cluster.live_scaling",
    "predict": "qwenkit.loadtest.prediction",
    "Tuner": "qwenkit.widgets.tuner",
    "bursts": "qwenkit.capacity.simulation.traffic",
    "Objective": "qwenkit.capacity.search.candidates",
    "compare_autoscalers": "qwenkit.capacity.search.autoscalers",
    "autoscaler_chart": "qwenkit.widgets.autoscaler_chart",
    "LiveWait": "qwenkit.widgets.live_output",
    "wake": "qwenkit.loadtest.story",
    "start_test": "qwenkit.loadtest.story",
    "LiveLoad": "qwenkit.widgets.live_load",
    "load_chart": "qwenkit.widgets.load_chart",
    "latency_chart": "qwenkit.widgets.latency_chart",
    "compare": "qwenkit.loadtest.comparison",
    "propose_change": "qwenkit.cluster.change.proposal",
    "Canary": "qwenkit.loadtest.canary",
    "Gate": "qwenkit.loadtest.gate",
    "canary_chart": "qwenkit.widgets.canary_chart",
    "answer": "qwenkit.exercises.checking",
    "check": "qwenkit.exercises.checking",
    "Workshop": "qwenkit.workshop.front",
    "record": "qwenkit.course.record",
    "audit": "qwenkit.steps",
    "teardown": "qwenkit.steps",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    if isinstance(value, FunctionType):
        value = import_module("qwenkit.errors.boundary").typed(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
