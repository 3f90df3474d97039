"""Check the server's container: GPU, volume, probe and vLLM's flags."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from math import prod

from qwenkit.admission.schema import quantities
from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.finding import Finding, Level
from qwenkit.capacity.gpu import CPU, GPUS, Gpu, gpu_of_label
from qwenkit.capacity.memory import LEAST_CAPABILITY
from qwenkit.manifests.documents import Doc, at, place, rows, table
from qwenkit.manifests.server_command import (
    container_words,
    server_command,
    shell_text,
    starts_itself,
)
from qwenkit.serving.command_line import ServerCommand
from qwenkit.serving.contradictions import contradictions
from qwenkit.serving.profile import ServingProfile, Wishes, choose

_GPU = "nvidia.com/gpu"
_COUNTED = (_GPU, "amd.com/gpu", "aliyun.com/gpu-count")  # others count slices, memory or shares
_DEVICE = re.compile(r"nvidia\.com/.*|.*/.*(gpu|[a-z]pu|mlu|dcu|gcu|neuron|gaudi|ascend).*", re.I)
# The rulebook speaks of settings; a command line has flags.
_AS_FLAGS = (
    (r"leave (max_model_len|image|dtype|quantization) out, or ", ""),
    (r"set gpu_count=(\d+)", r"pass --tensor-parallel-size \1"),
    ("set at most", "pass --max-model-len of at most"),
    (r'set quantization="", or', "leave --quantization out, or"),
    (r"set (dtype|quantization)=(\w+)", r"pass --\1 \2"),
    (r" \(gpu(_count)?\)", ""),
)
_LOAD = "--safetensors-load-strategy"
_CONTAINER = "spec.template.spec.containers"


def findings(doc: Doc, gpu_name: str | None, fuse: str) -> list[Finding]:
    """Examine the containers and volumes of one Knative Service; ``fuse`` mounts its claims."""
    labels = table(doc, "spec", "template", "spec", "nodeSelector").items()
    chosen = [str(value) for key, value in labels if re.search("gpu|nvidia|accelerator", key)]
    gpu = gpu_of_label(gpu_name or "".join(chosen[:1]))
    found = list(_claims(doc))
    for index, container in enumerate(rows(doc, "spec", "template", "spec", "containers")):
        if not isinstance(container, dict):
            continue  # the webhook refuses it
        path = f"{_CONTAINER}[{index}]"
        found += _image_and_probe(doc, container, path)
        faults = list(_words(doc, container, path))
        found += faults
        server = None if faults else server_command(container)
        if server:
            found += _gpus(doc, container, server, path)
            found += _paths(doc, container, server, path)
            card = CPU if _on_cpu(container) else gpu
            claims = "persistentVolumeClaim" in str(at(doc, "spec", "template", "spec", "volumes"))
            client = fuse if claims and server.model.startswith("/") else ""
            found += _rulebook(doc, container, server, path, card, client)
    return found


def _claims(doc: Doc) -> Iterator[Finding]:
    spec = at(doc, "spec", "template", "spec")
    fix = "set readOnly: true on the volume and on every mount of it"
    for volume in rows(spec, "volumes"):
        claim, name = at(volume, "persistentVolumeClaim"), at(volume, "name")
        if claim is None:
            continue
        mounts = [
            mount
            for container in rows(spec, "containers")
            for mount in rows(container, "volumeMounts")
            if at(mount, "name") == name
        ]
        if not claim.get("readOnly") or not all(at(mount, "readOnly") for mount in mounts):
            message = f"the claim {claim.get('claimName')} is not mounted read-only; unless the"
            message += " cluster allows writable claims, Knative refuses it"
            where = place(doc, f"spec.template.spec.volumes {name}")
            yield Finding("warning", "pvc-not-read-only", where, message, fix)


def _image_and_probe(doc: Doc, container: Doc, path: str) -> Iterator[Finding]:
    image = str(container.get("image", ""))
    tag = re.search(r":([^/@]+)", image.rsplit("/", 1)[-1])
    if "@" not in image and (tag is None or tag[1] == "latest"):
        message = f"{image} names no version: the next cold start may run another one"
        fix = "name a tag or a digest"
        yield Finding("warning", "image-version", place(doc, f"{path}.image"), message, fix)
    if at(container, "readinessProbe", "tcpSocket") is not None:
        message = "a TCP probe shows that the port is open, not that the model answers"
        fix = "probe httpGet /health"
        where = place(doc, f"{path}.readinessProbe")
        yield Finding("advice", "probe-tcp", where, message, fix)


def _words(doc: Doc, container: Doc, path: str) -> Iterator[Finding]:
    """Find why a command line cannot be executed as it is written."""
    command, args = container_words(container)
    words, where = [*command, *args], place(doc, f"{path}.{'command' if command else 'args'}")
    if command and re.search(r"\S\s+\S", command[0]):
        message = f"the whole command line is one word: no program is called {command[0][:60]!r}"
        fix = "split it, one word each, or let a shell read it: command: [sh, -c, 'exec …']"
        yield Finding("error", "command-one-word", where, message, fix)
    elif any(shell_text(words[index:]) for index in range(len(words))):
        return  # a shell splits and expands
    ours = starts_itself(container) or "vllm" in " ".join(words)
    for word in words[len(command[:1]) :] if ours else ():
        if re.match(r"--?[a-zA-Z][\w.-]*\s+\S", word):
            message = f"{word[:60]!r} is one word, and no flag is called so"
            yield Finding("error", "argument-one-word", where, message, "split flag and value")
        elif name := re.search(r"\$(?:\((\w+)\)|\{?([A-Za-z_]\w*))", word):
            why = "no variable of this container" if name[1] else "not expanded without a shell"
            fix = f"write $({name[1] or name[2]}) and give env that variable, or use a shell"
            yield Finding("error", "variable-unread", where, f"{name[0]} is {why}", fix)


def _gpus(doc: Doc, container: Doc, server: ServerCommand, path: str) -> Iterator[Finding]:
    where = place(doc, f"{path}.resources.limits")
    count = counted(container)
    if count is None and not _has_device(container):
        message = "vLLM has no GPU: without this limit the pod may start on any node"
        yield Finding("error", "gpu-limit", where, message, f'set {_GPU}: "1" in limits')
    each = "data-parallel-size-local"  # a pod's part of them
    data = each if each in server.options else "data-parallel-size"
    names = ("tensor-parallel-size", "pipeline-parallel-size", data)
    sizes = (server.number(name, 1) for name in names)
    used = prod(size or 0 for size in sizes) / (server.number("nnodes", 1) or 1)
    if used and used != (count or 1) and (count or not _has_device(container)):
        ray = server.text("distributed-executor-backend") == "ray"  # other pods may join
        more = used > (count or 1) and not ray
        message = f"the pod holds {count or 0:g} GPUs and vLLM uses {used:g}"
        message += " (tensor × pipeline × data parallel size)"
        fix = f"make --tensor-parallel-size and {_GPU} equal"
        yield Finding("error" if more else "warning", "gpu-count", where, message, fix)
    if not server.passes_signals:
        message = "the shell gets SIGTERM, vLLM may not: the GPU is then held for timeoutSeconds"
        where = place(doc, f"{path}.command")
        fix = "begin with exec; better, trap TERM and pass it on, as qwenkit render does"
        yield Finding("advice", "shell-without-exec", where, message, fix)


def counted(container: Doc) -> float | None:
    """Return how many whole GPUs a container holds; None where its resources count none."""
    given = _resources(container)
    texts = [str(given[name]) for name in _COUNTED if name in given]
    with suppress(ValueError, IndexError):
        return float(quantities.parse(texts[0])) or None
    return None


def _resources(container: Doc) -> Doc:
    resources = table(container, "resources")
    return {**table(resources, "requests"), **table(resources, "limits")}


def _has_device(container: Doc) -> bool:
    """Return whether a container has a GPU, shared or sliced, or is made to need none."""
    given = [str(name) for name, value in _resources(container).items() if str(value) != "0"]
    names = [str(at(variable, "name")) for variable in rows(container, "env")]
    return (
        any(map(_DEVICE.fullmatch, given))
        or bool(rows(container, "resources", "claims"))
        or any(name.startswith("NVIDIA_VISIBLE") for name in names)
        or _on_cpu(container)
    )


def _on_cpu(container: Doc) -> bool:
    names = [str(at(variable, "name")) for variable in rows(container, "env")]
    line = " ".join(word for part in container_words(container) for word in part)
    return (
        any(name.startswith(("VLLM_CPU", "VLLM_TARGET")) for name in names)
        or re.search(r"\bcpu\b", str(container.get("image"))) is not None
        or re.search(r"--device[ =]cpu", line) is not None
    )


def _paths(doc: Doc, container: Doc, server: ServerCommand, path: str) -> Iterator[Finding]:
    model = posixpath.normpath(server.model) if server.model.startswith("/") else ""
    mounts = [str(at(mount, "mountPath")) for mount in rows(container, "volumeMounts")]
    inside = any(f"{model}/".startswith(f"{mount.rstrip('/')}/") for mount in mounts)
    line = " ".join(word for words in container_words(container) for word in words)
    if model and not inside and line.count(model) < 2:  # a second time: it is downloaded to there
        message = f"the model {model} is outside every mount ({', '.join(mounts) or 'none'})"
        fix = "give --model and mountPath the same folder"
        where = place(doc, f"{path}.volumeMounts")
        claims = "persistentVolumeClaim" in str(at(doc, "spec", "template", "spec", "volumes"))
        official = re.search(r"(^|/)vllm/vllm-openai\b", str(container.get("image")))
        level: Level = (
            "error" if official or (claims and mounts) else "warning"
        )  # or it is baked in
        yield Finding(level, "model-path", where, message, fix)
    port = server.number("port", 8000)
    others = len(rows(doc, "spec", "template", "spec", "containers")) > 1
    if others and not rows(container, "ports"):
        return  # a container beside the one that gets the requests
    serving = at(container, "ports", 0, "containerPort") or 8080
    if port is not None and str(int(port)) != str(serving):
        default = "" if "port" in server.options else ", its default"
        message = f"vLLM listens on port {port:g}{default}; Knative sends requests to {serving}"
        fix = f"pass --port {serving}"
        yield Finding("error", "port-differs", place(doc, f"{path}.ports"), message, fix)


def _load_strategy(server: ServerCommand, profile: ServingProfile, where: str) -> Iterator[Finding]:
    """Compare how vLLM is to read weights with what it knows, and what a mount needs."""
    image, given, best = profile.image, server.text(_LOAD[2:]), profile.image.load_strategy
    if given == "" and profile.value(_LOAD) and server.text("load-format", "auto") == "auto":
        with_ = f"with {best}, {profile.chosen[_LOAD][1]}"
        message = f"random reads, the default, are slow on a FUSE mount; {with_}"
        yield Finding("advice", "load-strategy", where, message, f"pass {_LOAD} {best}")
    elif given and image.version and not best:
        message = f"vLLM before 0.11 has no {_LOAD}: it refuses to start"
        yield Finding("error", "load-strategy", where, message, "remove it, or use a newer image")
    elif given == "prefetch" and best == "eager":
        message = "vLLM before 0.18 does not know prefetch: it reads at random, as with lazy"
        yield Finding("warning", "load-strategy", where, message, f"pass {_LOAD} eager")


def _rulebook(
    doc: Doc, container: Doc, server: ServerCommand, path: str, gpu: Gpu | None, client: str
) -> Iterator[Finding]:
    """Ask the rulebook of ``serving``; without a GPU, what holds on any card."""
    config, name = find_config(server.model), server.model.rpartition("/")[2]
    share = min(1.0, server.number("gpu-memory-utilization", 0.9) or 0.9)
    count = int(min(64, server.number("tensor-parallel-size", 1) or 1))
    length = server.number("max-model-len", config.context if config else 0)
    image, card = str(container.get("image")), gpu or GPUS["H200"]
    wishes = Wishes(
        image=image if "vllm" in image else "unknown",
        quantization=server.text("quantization"),
        dtype=server.text("dtype", "auto"),
        max_model_len=int(length or 0),
        gpu_memory_utilization=share,
        fuse=client,
    )
    profile = choose(config, card, count, wishes, name=name)
    given = {key: value for key, value in asdict(wishes).items() if value} | {"gpu_count": count}
    given |= {"gpu": gpu.name} if gpu else {}
    names = [f"{at(variable, 'name')}=" for variable in rows(container, "env")]
    given["extra_args"] = f"{[*server.options]} {names} {container_words(container)}"
    # Of a share or slice, or with options that are elsewhere, nobody knows.
    counts = count if gpu and counted(container) and not server.unread else 0
    where = place(doc, f"{path}.{'command' if container.get('command') else 'args'}")
    for one in contradictions(config, card, counts, profile, given, gpu_memory_utilization=share):
        fix = one.fix
        for setting, flag in _AS_FLAGS:
            fix = re.sub(setting, flag, fix)
        near = re.search(r"len (\d+) exceeds the (\d+) tokens", one.message)
        close = near is not None and int(near[1]) < 1.1 * int(near[2])  # as exact as it is known
        here = place(doc, f"{path}.image") if one.rule.startswith("image") else where
        yield replace(one, where=here, fix=fix, level="warning" if close else one.level)
    yield from _load_strategy(server, profile, where)
    unset = wishes.dtype == "auto" and not (config and config.dtype == "float16")
    if unset and card.compute_capability < LEAST_CAPABILITY["bfloat16"]:
        message = f"{card.name} has no bfloat16, the type of most models, and none is chosen"
        yield Finding("warning", "dtype", where, message, "pass --dtype half")
    if profile.value("--trust-remote-code") and server.text("trust-remote-code", "no") == "no":
        message = f"{name} brings Python code of its own"
        yield Finding("error", "trust-remote-code", where, message, "pass --trust-remote-code")
    if counts and profile.value("--enforce-eager") and server.text("enforce-eager", "no") == "no":
        message = f"{profile.chosen['--enforce-eager'][1]} on {card.name}"
        fix = "pass --enforce-eager, or --gpu-memory-utilization 0.9"
        yield Finding("warning", "gpu-memory", where, message, fix)
