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

TYPE_CHECKING = False  # importing it from typing would cost more than all the rest
if TYPE_CHECKING:  # for type checkers and editors; `_ROOMS` is the same at run time
    from qwenkit.capacity.advice import ScalingContext, advise
    from qwenkit.capacity.candidates import Objective
    from qwenkit.capacity.environment import Environment
    from qwenkit.capacity.recommend import recommend
    from qwenkit.capacity.server import VllmServer
    from qwenkit.capacity.simulate import simulate
    from qwenkit.capacity.traffic import ClosedLoop, bursts
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.deploy import wait_bound
    from qwenkit.cluster.diagnosis.timeline import cold_start
    from qwenkit.cluster.live_scaling import live_scaling
    from qwenkit.cluster.scale import ReplicaWatch, change_scaling, wait_replicas
    from qwenkit.course.record import record
    from qwenkit.inference.client import Server
    from qwenkit.manifests.lint import lint
    from qwenkit.manifests.render import as_documented, render
    from qwenkit.manifests.scaling import scaling_spec
    from qwenkit.settings import Settings
    from qwenkit.steps import (
        apply,
        audit,
        deploy,
        doctor,
        explain,
        find_server,
        run_load,
        teardown,
    )
    from qwenkit.weights.progress import format_bytes
    from qwenkit.weights.store import Weights, repository
    from qwenkit.widgets.charts import cold_start_chart, load_chart
    from qwenkit.widgets.display import show_table, show_yaml
    from qwenkit.widgets.transfer_progress import TransferProgress
    from qwenkit.widgets.whatif import WhatIf

__version__ = "0.1.0"

_ROOMS = {
    "qwenkit.settings": ("Settings",),
    "qwenkit.steps": (
        *("doctor", "apply", "deploy", "explain", "find_server", "run_load"),
        *("teardown", "audit"),
    ),
    "qwenkit.weights.store": ("Weights", "repository"),
    "qwenkit.weights.progress": ("format_bytes",),
    "qwenkit.manifests.render": ("render", "as_documented"),
    "qwenkit.manifests.lint": ("lint",),
    "qwenkit.manifests.scaling": ("scaling_spec",),
    "qwenkit.cluster.client": ("Cluster",),
    "qwenkit.cluster.deploy": ("wait_bound",),
    "qwenkit.cluster.diagnosis.timeline": ("cold_start",),
    "qwenkit.cluster.live_scaling": ("live_scaling",),
    "qwenkit.cluster.scale": ("change_scaling", "ReplicaWatch", "wait_replicas"),
    "qwenkit.inference.client": ("Server",),
    "qwenkit.capacity.server": ("VllmServer",),
    "qwenkit.capacity.environment": ("Environment",),
    "qwenkit.capacity.traffic": ("ClosedLoop", "bursts"),
    "qwenkit.capacity.simulate": ("simulate",),
    "qwenkit.capacity.advice": ("ScalingContext", "advise"),
    "qwenkit.capacity.candidates": ("Objective",),
    "qwenkit.capacity.recommend": ("recommend",),
    "qwenkit.widgets.display": ("show_table", "show_yaml"),
    "qwenkit.widgets.transfer_progress": ("TransferProgress",),
    "qwenkit.widgets.charts": ("cold_start_chart", "load_chart"),
    "qwenkit.widgets.whatif": ("WhatIf",),
    "qwenkit.course.record": ("record",),
}
_MODULES = {name: module for module, names in _ROOMS.items() for name in names}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
