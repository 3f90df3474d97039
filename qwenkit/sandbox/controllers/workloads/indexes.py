"""Jobs with ``completionMode: Indexed``: each pod has an index, which must succeed once.

A pod knows its index by its hostname, its label and annotation, and JOB_COMPLETION_INDEX.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qwenkit.sandbox.kube.objects import Object

INDEX = "batch.kubernetes.io/job-completion-index"
_NONE = -1  # of a pod whose annotation somebody changed
_VARIABLE = "JOB_COMPLETION_INDEX"
# So that five random letters and the longest name of a pod's host fit.
_LONGEST = 58


def has_them(job: Object) -> bool:
    """Return whether the Job's pods have indexes."""
    return bool(job["spec"]["completionMode"] == "Indexed")


def give(pod: Object, *, index: int, job: str) -> None:
    """Give a new pod of a Job its index."""
    metadata, spec = pod["metadata"], pod["spec"]
    for field in ("annotations", "labels"):
        metadata[field] = {**metadata.get(field, {}), INDEX: str(index)}
    end = f"-{index}-"
    metadata["generateName"] = job[: _LONGEST - len(end)] + end
    spec["hostname"] = f"{job}-{index}"
    path = {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}
    given = {"name": _VARIABLE, "valueFrom": {"fieldRef": path}}
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        env = container.get("env", [])
        if all(one["name"] != _VARIABLE for one in env):
            container["env"] = [*env, given]


def free(job: Object, status: Object, active: Iterable[Object]) -> Iterator[int]:
    """Yield the indexes that have neither succeeded nor an active pod, the lowest first."""
    taken = _read(status.get("completedIndexes", "")) | {_of(pod) for pod in active}
    return (index for index in range(job["spec"]["completions"]) if index not in taken)


def complete(status: Object, pod: Object) -> None:
    """Add a pod that succeeded to the Job's status: ``completedIndexes`` such as ``0-2,5``."""
    done = sorted(_read(status.get("completedIndexes", "")) | {_of(pod)} - {_NONE})
    starts = [index for index in done if index - 1 not in done]
    ends = [index for index in done if index + 1 not in done]
    pairs = zip(starts, ends, strict=True)
    status["completedIndexes"] = ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in pairs)
    status["succeeded"] = len(done)


def _of(pod: Object) -> int:
    text = pod["metadata"].get("annotations", {}).get(INDEX, "")
    return int(text) if text.isdecimal() else _NONE


def _read(text: str) -> set[int]:
    found = set[int]()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
