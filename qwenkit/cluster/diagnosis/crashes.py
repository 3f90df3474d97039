"""Why a container exits: its exit code, its last log lines, and what known lines mean."""

from __future__ import annotations

import re
from dataclasses import replace

from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.diagnosis.snapshot import Snapshot
from qwenkit.cluster.diagnosis.waiting_reasons import CRASH
from qwenkit.cluster.kinds import Obj, is_true
from qwenkit.cluster.pods import containers

# Waiting ends at the second restart: the first crash may be a mount that came late.
CRASH_BUDGET = 2
_LOG_LINES = 6
_LOG_RULES: tuple[tuple[str, str, str], ...] = (
    (
        r"no kernel image is available|invalid device function",
        "the image has no kernels for this GPU",
        "use an image built for it: V100 needs vLLM 0.8.5 or older",
    ),
    (r"bfloat16 is only supported", "this GPU has no bfloat16", "--set dtype=half"),
    (
        r"no available memory for the cache blocks|larger than the maximum number of tokens"
        r"|larger than the available KV cache",
        "the KV cache does not fit into the GPU's memory",
        "lower max_model_len or raise gpu_memory_utilization",
    ),
    (
        r"not recognize this architecture|architectures .* are not supported for now",
        "the image's vLLM is too old for this model, or does not know it",
        "leave image out: qwenkit chooses one that serves the model",
    ),
    (
        r"error: unrecognized arguments",
        "the image's vLLM does not have one of these flags",
        "leave the flag out of extra_args, or use another image",
    ),
    (
        r"No CUDA GPUs are available|unspecified launch failure|GPU is lost",
        "the container has lost its GPU",
        "delete the pod so that it is scheduled again; kubectl describe node shows the GPUs left",
    ),
    (
        r"CUDA out of memory|OutOfMemoryError",
        "the GPU has too little memory",
        "lower max_model_len or gpu_memory_utilization, or use a larger GPU",
    ),
    (
        r"HeaderTooLarge|SafetensorError|is not a valid JSON file|InvalidHeaderDeserialization",
        "the weights are damaged or are LFS pointers",
        "qwenkit upload again; it verifies every file",
    ),
    (
        r"No such file or directory|does not appear to have a file named|is not a local folder",
        "the model's files are not where the server looks",
        "compare prefix and mount_path with the folder in the bucket",
    ),
)


def crash(snapshot: Snapshot) -> Explanation | None:
    """Explain a container that ended with an error, None if there is none."""
    for pod in snapshot.living():
        for status in containers(pod):
            now, before = status.get("state") or {}, status.get("lastState") or {}
            ended = now.get("terminated") or before.get("terminated") or {}
            if not is_true(pod, "Ready") and int(ended.get("exitCode") or 0) != 0:
                log = snapshot.log(pod, str(status["name"]), ended=True)
                return _explain(log, status, ended)
    return None


def _explain(log: str, status: Obj, ended: Obj) -> Explanation:
    restarts = int(status.get("restartCount") or 0)
    text = "\n".join([str(ended.get("message") or ""), log])
    last = [line for line in text.splitlines() if line.strip()][-_LOG_LINES:]
    known = next((row for row in _LOG_RULES if re.search(row[0], text, re.IGNORECASE)), None)
    name = status["name"]
    cause = f"the container {name} exits with code {ended.get('exitCode')}"
    if ended.get("reason") == "OOMKilled":
        cause = "the container was killed: it used more than memory_limit"
        found = Explanation("oom", cause, fix="raise memory_limit")
    elif known:
        found = replace(CRASH, cause=f"{cause}: {known[1]}", fix=known[2])
    else:
        found = replace(CRASH, cause=cause, fix=CRASH.fix.format(container=name))
    found = replace(found, permanent=restarts >= CRASH_BUDGET)
    return found.shown_by(f"restarted {restarts} times", *last)
