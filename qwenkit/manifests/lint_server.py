"""Check the server's container: GPU, volume, probe and vLLM's flags."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.finding import Finding
from qwenkit.capacity.gpu import SMALLEST_GPU, Gpu, gpu_of_label
from qwenkit.capacity.memory import LEAST_CAPABILITY, fit, graphs_fit
from qwenkit.errors import InvalidValue
from qwenkit.manifests.documents import Doc, at, place, rows

_GPU = "nvidia.com/gpu"
_CONTAINER = "spec.template.spec.containers"


def findings(doc: Doc, gpu_name: str | None) -> list[Finding]:
    """Examine the containers and volumes of one Knative Service."""
    gpu = gpu_of_label(gpu_name or "")
    found = list(_claims(doc))
    for index, container in enumerate(rows(doc, "spec", "template", "spec", "containers")):
        if not isinstance(container, dict):
            continue  # the webhook refuses it
        path = f"{_CONTAINER}[{index}]"
        found += _image_and_probe(doc, container, path)
        arguments = _arguments(container)
        if any("vllm" in word for word in arguments):
            found += _gpus(doc, container, arguments, path)
            found += _paths(doc, container, arguments, path)
            found += _flags(doc, arguments, f"{path}.command", gpu)
            found += _memory(doc, arguments, f"{path}.command", gpu)
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


def _arguments(container: Doc) -> list[str]:
    words = [str(word) for word in [*rows(container, "command"), *rows(container, "args")]]
    if len(words) >= 3 and words[0].rsplit("/", 1)[-1] in ("sh", "bash") and words[1] == "-c":
        try:
            return shlex.split(words[2].replace("$$", "$"))
        except ValueError:
            return words[2].split()
    return words


def _option(arguments: list[str], name: str) -> str | None:
    for index, word in enumerate(arguments):
        if word == f"--{name}":
            return arguments[index + 1] if index + 1 < len(arguments) else ""
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None


def _gpus(doc: Doc, container: Doc, arguments: list[str], path: str) -> Iterator[Finding]:
    count = at(container, "resources", "limits", _GPU)
    where = place(doc, f"{path}.resources.limits")
    if count is None:
        message = "vLLM has no GPU: without this limit the pod may start on any node"
        yield Finding("error", "gpu-limit", where, message, f'set {_GPU}: "1" in limits')
    parallel = _option(arguments, "tensor-parallel-size") or "1"
    if count is not None and str(count) != parallel:
        message = f"the pod holds {count} GPUs and vLLM uses {parallel}"
        fix = f"make --tensor-parallel-size and {_GPU} equal"
        yield Finding("warning", "gpu-count", where, message, fix)
    command = rows(container, "command")
    if len(command) == 3 and command[1] == "-c" and not {"exec", "trap"} & set(arguments):
        message = "the shell gets SIGTERM, vLLM may not: the GPU is then held for timeoutSeconds"
        where = place(doc, f"{path}.command")
        fix = "begin with exec; better, trap TERM and pass it on, as qwenkit render does"
        yield Finding("advice", "shell-without-exec", where, message, fix)


def _paths(doc: Doc, container: Doc, arguments: list[str], path: str) -> Iterator[Finding]:
    model = _option(arguments, "model")
    mounts = [str(at(mount, "mountPath")) for mount in rows(container, "volumeMounts")]
    if model and model.startswith("/"):
        inside = any(f"{model}/".startswith(f"{mount.rstrip('/')}/") for mount in mounts)
        if not inside:
            message = f"the model {model} is outside every mount ({', '.join(mounts) or 'none'})"
            fix = "give --model and mountPath the same folder"
            where = place(doc, f"{path}.volumeMounts")
            yield Finding("error", "model-not-mounted", where, message, fix)
    port = _option(arguments, "port") or "8000"
    serving = at(container, "ports", 0, "containerPort") or 8080
    if port != str(serving):
        message = f"vLLM listens on {port}, Knative sends requests to {serving}"
        fix = f"pass --port {serving}"
        yield Finding("error", "port-differs", place(doc, f"{path}.ports"), message, fix)


def _flags(doc: Doc, arguments: list[str], path: str, gpu: Gpu | None) -> Iterator[Finding]:
    dtype, method = _option(arguments, "dtype"), _option(arguments, "quantization")
    capability = gpu.compute_capability if gpu else 0.0
    where = place(doc, path)
    fix = "pass --dtype half"
    halves = ("half", "float16")
    bfloat16 = capability >= LEAST_CAPABILITY["bfloat16"]
    if dtype not in (*halves, "float", "float32") and not bfloat16:
        message = f"--dtype is {dtype or 'not given'}, and V100 and T4 have no bfloat16"
        yield Finding("warning", "dtype", where, message, fix)
    elif method == "gptq" and dtype not in halves:
        message = "GPTQ works with half precision only"
        yield Finding("warning", "dtype", where, message, fix)
    least = LEAST_CAPABILITY.get(method or "", 0)
    if gpu and capability < least:
        message = (
            f"--quantization {method} needs compute capability {least}; {gpu.name} has {capability}"
        )
        yield Finding("error", "quantization", where, message, "use gptq")
    qwen_v1 = re.search(r"Qwen-\d", _option(arguments, "model") or "")
    if qwen_v1 and "--trust-remote-code" not in arguments:
        message = "the first Qwen models bring their own code"
        yield Finding("error", "trust-remote-code", where, message, "pass --trust-remote-code")


def _memory(doc: Doc, arguments: list[str], path: str, gpu: Gpu | None) -> Iterator[Finding]:
    share = _float(_option(arguments, "gpu-memory-utilization"), 0.9)
    where = place(doc, path)
    if not graphs_fit(gpu or SMALLEST_GPU, share) and "--enforce-eager" not in arguments:
        message = f"CUDA graphs take 1 to 3 GiB beside the share of {share:g}: too much for 16 GB"
        fix = "pass --enforce-eager, or --gpu-memory-utilization 0.9"
        yield Finding("warning", "gpu-memory", where, message, fix)
    model = find_config(_option(arguments, "model") or "")
    if gpu is None or model is None:
        return
    count = _float(_option(arguments, "tensor-parallel-size"), 1)
    length = _float(_option(arguments, "max-model-len"), 8192)
    try:
        memory = fit(
            gpu,
            model,
            gpus=int(count),
            max_model_len=int(length),
            gpu_memory_utilization=share,
        )
    except (InvalidValue, OverflowError):  # a share or a length that vLLM refuses
        return
    if memory.kv_tokens == 0:
        fix = "use a quantised model, a larger GPU or more of them"
        yield Finding("error", "weights-size", where, memory.problems[-1], fix)
    elif not memory.fits and memory.kv_tokens < length:
        fix = f"pass --max-model-len={memory.kv_tokens // 2}"
        yield Finding("error", "kv-cache", where, memory.problems[-1], fix)


def _float(text: str | None, otherwise: float) -> float:
    try:
        return float(text) if text is not None else otherwise
    except ValueError:
        return otherwise
