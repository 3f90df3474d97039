"""The checks of the nodes: GPUs, their model and driver, CPU and memory for each replica."""

from __future__ import annotations

from collections import Counter

from qwenkit.capacity.gpu import gpu_of_label
from qwenkit.cluster.kinds import Obj, labels_of, name_of
from qwenkit.cluster.pods import gpu_label, gpus_of, gpus_wanted
from qwenkit.cluster.preflight.check import (
    Check,
    fail,
    not_applicable,
    numbers,
    ok,
    unknown,
    warn,
)
from qwenkit.cluster.preflight.rooms import Rooms
from qwenkit.settings import Settings

_DRIVER_LABEL = "ack.aliyun.com/nvidia-driver-version"
_ADVISED_DRIVER = "525.105.17"
_ACK_LABELS = ("alibabacloud.com/", "ack.aliyun.com/", "aliyun.accelerator/", "ack.node.")


def on_ack(rooms: Rooms) -> bool:
    """Return whether nodes carry labels of Alibaba Cloud."""
    return any(label.startswith(_ACK_LABELS) for node in rooms.nodes for label in labels_of(node))


def gpu_checks(rooms: Rooms, settings: Settings) -> list[Check]:
    """Check the nodes' GPUs against those that the settings name and each replica needs."""
    if settings.gpu_count == 0:
        none = "none needed: gpu_count is 0"
        return [not_applicable(name, none) for name in ("gpus", "driver", "scale")]
    carriers = [node for node in rooms.nodes if gpus_of(node, settings.gpu_resource)]
    closed = {name_of(node): why for node in carriers if (why := rooms.obstacle(node))}
    usable = [node for node in carriers if name_of(node) not in closed]
    note = ", ".join(f"{name} ({why})" for name, why in closed.items())
    if not usable:
        return [_no_gpus(rooms, settings, note)]
    whole = sum(gpus_of(node, settings.gpu_resource) for node in usable)
    free = sum(int(rooms.free(node, settings.gpu_resource)) for node in usable)
    labels = Counter(gpu_label(node) or "unlabelled" for node in usable)
    found = ", ".join(f"{count} × {label}" for label, count in labels.items())
    found += f", {whole} {_unit(settings)}" + (f", {free} free" if free != whole else "")
    found += f"; not counted: {note}" if note else ""
    model = _gpu_model(usable, settings, found, selected=bool(rooms.spec.get("nodeSelector")))
    scale = _if_seen(rooms, _scale(rooms, whole, settings))
    return [model, _driver(usable, ack=on_ack(rooms)), scale]


def _unit(settings: Settings) -> str:
    return "GiB" if settings.gpu_resource.endswith("gpu-mem") else "GPUs"


def _no_gpus(rooms: Rooms, settings: Settings, closed: str) -> Check:
    if closed:
        why = f"no node with {settings.gpu_resource} takes the pods: {closed}"
        return fail("gpus", "none usable", why, "uncordon or repair a node, or select another")
    amounts = [node.get("status", {}).get("allocatable") or {} for node in rooms.nodes]
    names = {name for one in amounts for name, amount in one.items() if str(amount) != "0"}
    others = sorted(name for name in names if "gpu" in name or "/mig-" in name)
    fix = f"add a node pool with {settings.gpu_name} GPUs; the device plugin must run on it"
    if others:
        fix = f"the nodes have {', '.join(others)}: --set gpu_resource={others[0]}"
    return fail("gpus", "none", f"no node can allocate {settings.gpu_resource}", fix)


def _gpu_model(nodes: list[Obj], settings: Settings, found: str, *, selected: bool) -> Check:
    models = {one: gpu_of_label(one) for one in sorted({gpu_label(n) for n in nodes} - {""})}
    wanted = gpu_of_label(settings.gpu_name)
    if settings.gpu_memory_gib is not None or wanted is None:
        return ok("gpus", found)  # a GPU of one's own
    fitting = [label for label, gpu in models.items() if gpu and gpu.name == wanted.name]
    others = [label for label in models if label not in fitting]
    if not others or (fitting and selected):
        return ok("gpus", found)
    gpu = models[others[0]]
    why = f"the parameters are for {settings.gpu_name}, and a pod may land on {others[0]}"
    fix = "set gpu_memory_gib, gpu_bandwidth_gb_s, gpu_tflops and gpu_capability: no table has it"
    if fitting:
        marks = [pair for node in nodes for pair in labels_of(node).items()]
        fix = "--set node_selector=" + next(f"{k}={v}" for k, v in marks if v == fitting[0])
    elif gpu:
        kind = "bfloat16" if gpu.compute_capability >= 8 else "no bfloat16"
        fix = f"--set gpu={gpu.name} ({gpu.usable_gib:.3g} GiB, {kind}; image and dtype follow)"
    return warn("gpus", found, why, fix)


def _driver(nodes: list[Obj], *, ack: bool) -> Check:
    if not ack:
        return not_applicable("driver", "its label is ACK's, and this cluster is none")
    versions = sorted({labels_of(node).get(_DRIVER_LABEL, "") for node in nodes})
    found = ", ".join(version or "no label" for version in versions)
    if all(numbers(version) >= numbers(_ADVISED_DRIVER) for version in versions):
        return ok("driver", found)
    fix = f"label the node pool {_DRIVER_LABEL}:{_ADVISED_DRIVER}; only new nodes get it"
    return warn("driver", found, f"{_ADVISED_DRIVER} or newer is advised", fix)


def _scale(rooms: Rooms, available: int, settings: Settings) -> Check:
    each, most = gpus_wanted(rooms.spec, settings.gpu_resource), settings.max_scale
    unit = _unit(settings)
    found = f"max_scale {most}, {each} {unit.removesuffix('s')} per replica"
    if most == 0:
        return warn("scale", found, "no limit: a burst takes every GPU", "set max_scale")
    fitting = rooms.places(settings.gpu_resource)
    if fitting < most:
        why = f"{fitting} replicas fit now: other pods hold GPUs, or one pod needs two nodes'"
        if most * each > available:
            why = f"{most * each} {unit} at full scale, the cluster has {available}"
        return warn("scale", found, why, f"add nodes, or --set max_scale={fitting or 1}")
    return ok("scale", f"{found}, {available} {unit} available")


def room_checks(rooms: Rooms, settings: Settings) -> list[Check]:
    """Check that the CPU and memory of all replicas are free, and a place for a new revision."""
    return [_if_seen(rooms, check) for check in (_fit(rooms, settings), _rollout(rooms, settings))]


def _if_seen(rooms: Rooms, check: Check) -> Check:
    """Return what is found; that all fits is not known while other pods may not be seen."""
    if check.verdict != "ok" or not rooms.hidden:
        return check
    why = f"the nodes are large enough, but not what other pods hold: {rooms.hidden}"
    return unknown(check.name, why)


def _rollout(rooms: Rooms, settings: Settings) -> Check:
    """Check that a new revision finds room: its first pods start beside the old ones."""
    if not settings.max_scale:
        return not_applicable("rollout", "max_scale 0: no limit")
    first = max(settings.min_scale, 1 if settings.initial_scale is None else settings.initial_scale)
    fitting = rooms.places("cpu", "memory", settings.gpu_resource)
    wanted = settings.max_scale + first
    found = f"max_scale {settings.max_scale}, and {first} of a new revision"
    if fitting >= wanted:
        return ok("rollout", f"{found} fit")
    why = f"{fitting} of these {wanted} pods fit: at full scale a change finds no room"
    fix = "add a node, or lower max_scale; else a change needs mode replace, which has a gap"
    return warn("rollout", found, why, fix)


def _fit(rooms: Rooms, settings: Settings) -> Check:
    found = f"cpu {settings.cpu_request}, memory {settings.memory_request} per replica"
    fitting = rooms.places("cpu", "memory")
    if fitting >= max(1, settings.max_scale):
        return ok("fit", found)
    frees = [
        f"{name_of(node)} has cpu {float(rooms.free(node, 'cpu')):.3g} and "
        f"{int(rooms.free(node, 'memory')) >> 20}Mi free"
        for node in rooms.nodes
        if not rooms.obstacle(node)
    ]
    why = (
        f"{fitting or 'no'} of {settings.max_scale} fit: {', '.join(frees[:3]) or 'no usable node'}"
    )
    if fitting:
        return warn("fit", found, why, f"--set max_scale={fitting}, or request less")
    return fail("fit", found, why, "lower cpu_request and memory_request, or add a larger node")
