"""Which server is measured to calibrate a card, and what is kept of it.

A Service that scales cannot be measured through its gateway: then a copy with one pod is deployed
beside it, on the same volume, and deleted again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from qwenkit import steps
from qwenkit.autoscaling.recording import read_recording
from qwenkit.capacity.calibration.cards import CARD
from qwenkit.capacity.calibration.points import Measurements
from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.file_fields import FileFields
from qwenkit.capacity.memory import fit
from qwenkit.capacity.step_time import StepTime
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.kinds import KSVC
from qwenkit.cluster.live_scaling import live_scaling
from qwenkit.cluster.removal import Manner, Removal
from qwenkit.cluster.rollout import wait_ready
from qwenkit.errors import InvalidValue, NotFound, NotReady, QwenkitError
from qwenkit.inference.client import Server
from qwenkit.inference.load.records import requests_of
from qwenkit.loadtest.measuring import Measuring
from qwenkit.loadtest.speed import Figures, figures_of
from qwenkit.settings import Settings
from qwenkit.untrusted.parsing import parse_json
from qwenkit.weights.model_config import read_config_file

Tell = Callable[[object], None]
_OUTLIVES = "2h"  # a copy that a crash left behind is removed by `teardown --expired` then


def default_name(settings: Settings) -> str:
    """Return a name for the card: of GPU and model."""
    gpu = settings.hardware.name.removeprefix(CARD)
    return re.sub(r"[^a-z0-9.]+", "-", f"{gpu}-{settings.model_name}".lower()).strip("-.")


def measure(
    settings: Settings, *, url: str = "", quick: bool = False, tell: Tell
) -> dict[str, Any]:
    """Measure the settings' service, or the server at ``url``; return it as a file of points.

    Raises:
        QwenkitError: no vLLM is there, it does not become ready, or requests fail.
    """
    settings = steps.resolve(settings)
    file = described(settings)
    run: dict[str, Any] = file["runs"]["measured"]
    with _at(settings, url) if url else _alone(settings, tell) as server:
        longest = int(_served(server).get("max_model_len") or settings.sizes()["max_model_len"])
        run["kv_tokens"] = _kv_tokens(server)
        room = 0.95 * (run["kv_tokens"] or fit(**settings.sizes()).kv_tokens)
        run |= Measuring(server, longest, room, run["max_num_seqs"], tell, quick).figures()
    return file


def taken(settings: Settings, files: Iterable[Path]) -> dict[str, Any]:
    """Return what records of a load, or files of points, tell of one card and model.

    Raises:
        NotFound: there is no such file.
        InvalidValue: it is neither, or of another card, model or engine than the first.
    """
    found: dict[str, Any] = {}
    first: tuple[object, ...] = ()
    for path in files:
        read = read_recording(path)
        read = read.get("measured", read) if isinstance(read, dict) else {}
        if "requests" in read:
            read = described(steps.resolve(settings), figures_of(*requests_of(read, path)))
        if not isinstance(runs := read.get("runs"), dict):
            rule = "records of `qwenkit load --records FILE.json`, or a file of points"
            raise InvalidValue("--load-results", str(path), rule)
        points = Measurements.of(FileFields(read, path.name))
        at = points.gpu.bandwidth_gb_s, points.gpu.fp16_tflops, read.get("model"), points.v1
        first = first or at
        if at != first:
            rule = "of the same card, model and engine (V1 or before) as the first file"
            raise InvalidValue("--load-results", str(path), rule)
        runs = {f"{path.stem}/{name}": run for name, run in runs.items()}
        found = {**read, **found, "runs": {**found.get("runs", {}), **runs}}
    return found


def described(settings: Settings, figures: Figures | None = None) -> dict[str, Any]:
    """Return a file of points with what the settings say of card, model and server."""
    sizes = settings.sizes()
    gpu, part, v1 = sizes["gpu"], sizes["model"].split(sizes["gpus"]), bool(sizes["batched_tokens"])
    config = settings.model
    assert config is not None  # or there are no sizes
    model: dict[str, Any] = {"shape": config.name}
    if find_config(config.name) != config:
        model["config"] = read_config_file(settings)
    run: dict[str, Any] = {
        "kernel": StepTime(gpu, part, v1=v1).kernel,
        "eager": sizes["eager"],
        "chunked_prefill": v1 and sizes["chunked_prefill"],
        "gpus": sizes["gpus"],
        "max_num_seqs": sizes["max_num_seqs"],
        "max_num_batched_tokens": sizes["batched_tokens"] or max(sizes["max_model_len"], 2048),
    }
    if settings.gpu_count:
        run["room_gib"] = round(gpu.usable_gib * sizes["gpu_memory_utilization"], 3)
    card = {
        "name": gpu.product or gpu.name,
        "usable_gib": gpu.usable_gib,
        "bandwidth_gb_s_datasheet": gpu.bandwidth_gb_s,
        "fp16_tflops_datasheet": gpu.fp16_tflops,
        "compute_capability": gpu.compute_capability,
    }
    engine = f"vLLM, image {settings.image}"
    return {
        "card": card,
        "engine": engine,
        "v1": v1,
        "model": model,
        "runs": {"measured": run | (figures or {})},
    }


def _served(server: Server) -> dict[str, Any]:
    """Return what the server says of the model; of its only one, if it has none of that name."""
    try:
        listed = parse_json(server.get("/v1/models"))
        models = {str(one["id"]): dict(one) for one in listed["data"]}
    except (QwenkitError, ValueError, KeyError, TypeError) as error:
        if server.host and isinstance(error, QwenkitError):
            raise
        why = getattr(error, "what", "the answer lists no models")
        fix = "name the address of an OpenAI server, such as http://127.0.0.1:8000"
        raise NotFound(f"no vLLM at {server.gateway}", f"GET /v1/models: {why}", fix) from None
    if server.model not in models:
        if len(models) != 1:
            raise InvalidValue("served_model_name", server.model, f"one of {[*models]}")
        server.model = next(iter(models))
    return models[server.model]


def _kv_tokens(server: Server) -> int | None:
    """Return the tokens of the KV cache; None if the server does not tell."""
    with suppress(QwenkitError):
        text = server.get("/metrics")
        found = dict(re.findall(r'[{,](block_size|num_gpu_blocks)="(\d+)"', text))
        if len(found) == 2:
            return int(found["block_size"]) * int(found["num_gpu_blocks"])
    return None


@contextmanager
def _at(settings: Settings, url: str) -> Iterator[Server]:
    """Yield a server that is not behind Knative."""
    server = Server(
        url.rstrip("/").removesuffix("/v1"),
        "",
        model=settings.served_model_name,
        timeout_s=settings.timeout_s,
        ca=settings.gateway_ca,
    )
    with closing(server):
        yield server


@contextmanager
def _alone(settings: Settings, tell: Tell) -> Iterator[Server]:
    """Yield the service if it has one pod at most, else a copy with one pod beside it."""
    cluster = Cluster.connect(settings)
    try:
        spec = live_scaling(cluster, settings.service).spec
    except (NotFound, NotReady):
        spec = None
    if spec and spec.max_scale == 1 and not spec.container_concurrency:
        yield steps.find_server(settings)
        return
    one = {"min_scale": 1, "max_scale": 1, "initial_scale": None, "activation_scale": None}
    copy = settings.model_copy(
        update=one
        | {
            "service": f"{settings.service[:53]}-calibrate",
            "container_concurrency": 0,
            "expires_after": settings.expires_after or _OUTLIVES,
        }
    )
    tell(f"{copy.service}, a copy of {settings.service} with one pod, is measured, then deleted")
    try:
        (applied,) = steps.apply(copy, steps.render(copy)[-1:])
        limit_s = settings.seconds("ready")
        wait_ready(
            cluster, copy.service, generation=applied.generation, timeout_s=limit_s, on_change=tell
        )
        yield steps.find_server(copy)
    finally:
        removal = Removal(cluster, settings.seconds("teardown"), Manner(tell), tell)
        removal.attempt(f"ksvc {copy.service}", lambda: removal.remove(KSVC, copy.service))
        removal.attempt(f"pods of {copy.service}", lambda: removal.wait_for_children(copy.service))
        removal.fail()
