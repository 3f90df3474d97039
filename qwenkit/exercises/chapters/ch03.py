"""Chapter 03: vLLM as a Knative Service."""

from __future__ import annotations

from qwenkit.capacity.memory import BLOCK, fit
from qwenkit.cluster import kinds
from qwenkit.cluster.kinds import annotations_of, labels_of, name_of
from qwenkit.exercises.exercise import TODO, Verdict, exercise, judged, number
from qwenkit.exercises.facts import Facts


@exercise("03.1")
def tokens_in_the_kv_cache(facts: Facts) -> Verdict:
    """What weights and activations leave of vLLM's share of the GPU, in tokens."""
    memory = fit(**(sizes := facts.settings.sizes()))
    gib, share = memory.kv_tokens / (memory.kv_gib or 1), sizes["gpu_memory_utilization"]
    card, weights, activation = memory.usable_gib, memory.weights_gib, memory.activation_gib
    slips = {
        "no-share": (card - weights - activation) * gib,
        "no-activations": (card * share - weights) * gib,
        "no-weights": card * share * gib,
        "blocks": memory.kv_tokens / BLOCK,
        "one-request": memory.max_model_len,
        "gib": memory.kv_gib,
    }
    return number(facts.answer, memory.kv_tokens, slips, within=0.12)


@exercise("03.2")
def the_pod_that_answers(facts: Facts) -> Verdict:
    """The end of the chain Service, Configuration, Revision, Deployment, ReplicaSet, Pod."""
    given = str(facts.answer).strip().removeprefix("pod/")
    labels = {kinds.SERVICE_LABEL: facts.settings.service}
    pods, deployments, revisions = (
        {name_of(one) for one in facts.list(kind, labels)}
        for kind in (kinds.POD, kinds.DEPLOYMENT, kinds.REVISION)
    )
    seen = {
        "service": given == facts.settings.service,
        "revision": given in revisions,
        "deployment": given in deployments,
        "replica-set": given.rpartition("-")[0] in deployments,
        "gone": given not in pods and given.rsplit("-", 2)[0] in deployments,
        "other": given not in pods,
    }
    return TODO if facts.answer is None else judged(seen, answer=given)


@exercise("03.3")
def a_label_without_a_revision(facts: Facts) -> Verdict:
    """Only a change of the template makes a revision; Knative overwrites what it made."""
    key, labels = "team", {kinds.SERVICE_LABEL: facts.settings.service}
    if (service := facts.find(kinds.KSVC, facts.settings.service)) is None:
        return TODO
    template, there = service["spec"]["template"], key in labels_of(service)
    seen = {"template": key in labels_of(template) | annotations_of(template)}
    made = {
        "service": kinds.CORE_SERVICE,
        "revision": kinds.REVISION,
        "deployment": kinds.DEPLOYMENT,
        "pod": kinds.POD,
    }
    for name, kind in made.items():
        seen[name] = not there and any(key in labels_of(o) for o in facts.list(kind, labels))
    seen["annotation"] = key in annotations_of(service) and not there
    return judged(seen) if there or any(seen.values()) else TODO
