"""What the API server refuses in Deployments, ReplicaSets and Jobs, and in changes of pods.

What it refuses in the spec of a pod is in ``admission.pod.validation``.
"""

from __future__ import annotations

from qwenkit.admission.field_errors import (
    Errors,
    FieldError,
    forbidden,
    invalid,
    invalid_as,
    required,
    unsupported,
)
from qwenkit.admission.pod.validation import RESTART_POLICIES, pod_spec_errors
from qwenkit.admission.schema import names
from qwenkit.sandbox.kube.objects import Object, at

_POD_SPEC = "spec.template.spec"
_MODES = ("Indexed", "NonIndexed")
_FIXED = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)"
)
_CHANGEABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName")


def replicated(obj: Object) -> Errors:
    """Check the spec of a Deployment or ReplicaSet."""
    spec = obj.get("spec", {})
    if (replicas := spec.get("replicas", 1)) < 0:
        yield invalid("spec.replicas", replicas, "must be greater than or equal to 0")
    wanted = at(spec, "selector", "matchLabels") or {}
    labels = at(spec, "template", "metadata", "labels") or {}
    if not spec.get("selector"):
        yield required("spec.selector")
    elif not wanted and not at(spec, "selector", "matchExpressions"):
        rule = "empty selector is invalid for deployment"
        yield invalid_as("spec.selector", _go_selector(wanted), rule)
    elif not wanted.items() <= labels.items():
        rule = "`selector` does not match template `labels`"
        yield invalid_as("spec.template.metadata.labels", _go_map(labels), rule)
    template = at(spec, "template", "spec") or {}
    yield from pod_spec_errors(template, _POD_SPEC)
    policy = template.get("restartPolicy", "Always")
    if policy in RESTART_POLICIES and policy != "Always":
        yield unsupported(f"{_POD_SPEC}.restartPolicy", policy, ("Always",))


def job(obj: Object) -> Errors:
    """Check the spec of a Job."""
    spec = at(obj, "spec", "template", "spec") or {}
    if spec.get("restartPolicy") not in ("OnFailure", "Never"):
        yield required(f"{_POD_SPEC}.restartPolicy", 'valid values: "OnFailure", "Never"')
    yield from _indexes(obj)
    yield from pod_spec_errors(spec, _POD_SPEC)


def _indexes(obj: Object) -> Errors:
    mode, completions = (at(obj, "spec", key) for key in ("completionMode", "completions"))
    if mode not in (None, *_MODES):
        yield unsupported("spec.completionMode", mode, _MODES)
    if mode != "Indexed":
        return
    if completions is None:
        yield required("spec.completions", "when completion mode is Indexed")
        return
    name = at(obj, "metadata", "name") or ""
    if names.dns_1123_label(host := f"{name}-{max(0, completions - 1)}"):
        words = f"will not able to create pod with invalid DNS label: {host}"
        yield invalid("metadata.name", name, words)


def fixed_selector(obj: Object, old: Object) -> Errors:
    """Check that an update of a Deployment or ReplicaSet keeps its selector."""
    wanted, before = (at(one, "spec", "selector") for one in (obj, old))
    if wanted != before:
        text = _go_selector(at(wanted, "matchLabels") or {})
        yield invalid_as("spec.selector", text, "field is immutable")


def fixed_pod(obj: Object, old: Object) -> Errors:
    """Check that an update of a pod changes only what may change."""
    if _unchangeable(obj["spec"]) != _unchangeable(old["spec"]):
        yield forbidden("spec", _FIXED)


def fixed_job(obj: Object, old: Object) -> Errors:
    """Check that an update of a Job keeps its template."""
    if obj["spec"]["template"] != old["spec"]["template"]:
        message = "Invalid value: field is immutable"
        yield FieldError("FieldValueInvalid", "spec.template", message)


def _unchangeable(spec: Object) -> Object:
    kept = {key: value for key, value in spec.items() if key not in _CHANGEABLE}
    for part in ("initContainers", "containers"):
        kept[part] = [{**container, "image": None} for container in spec.get(part, [])]
    return kept


def _go_map(labels: Object) -> str:
    pairs = ", ".join(f'"{key}":"{value}"' for key, value in sorted(labels.items()))
    return f"map[string]string{{{pairs}}}" if labels else "null"


def _go_selector(labels: Object) -> str:
    shown = _go_map(labels) if labels else "map[string]string(nil)"
    expressions = "[]v1.LabelSelectorRequirement(nil)"
    return f"v1.LabelSelector{{MatchLabels:{shown}, MatchExpressions:{expressions}}}"
