"""Knative's rules for a whole object: metadata, template, traffic, updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qwenkit.admission import annotations as admission_annotations
from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import (
    HERE,
    Fault,
    disallowed,
    invalid,
    invalid_key,
    missing,
    missing_one_of,
    multiple_one_of,
    out_of_bounds,
    via,
)
from qwenkit.admission.pod.spec import pod_faults
from qwenkit.admission.schema import names
from qwenkit.admission.update_rules import update_faults

Object = Mapping[str, Any]
_OWNED_BY = {"Route": "Service", "Configuration": "Service", "Revision": "Configuration"}


def object_faults(
    obj: Object, kind: str, *, cluster: ClusterConfigMaps, old: Object | None = None
) -> list[Fault]:
    """Check a defaulted object.

    Args:
        obj: the object with its defaults and its name.
        kind: Service, Configuration, Revision or Route.
        cluster: the cluster's configuration.
        old: the stored object of an update.
    """
    metadata, spec = obj.get("metadata", {}), obj.get("spec", {})
    found = via(_metadata(metadata, kind, cluster), "metadata")
    if kind in ("Service", "Configuration"):
        template = _template(spec.get("template", {}), metadata, cluster)
        found += via(template, "spec", "template")
    if kind in ("Service", "Route"):
        found += via(_traffic(spec.get("traffic", []), kind), "spec", "traffic")
    if kind == "Revision" and old is None:
        found += via(_revision(spec, cluster), "spec")
    return found if old is None else found + update_faults(obj, old, kind)


def _metadata(metadata: Object, kind: str, cluster: ClusterConfigMaps) -> list[Fault]:
    annotations = metadata.get("annotations", {})
    found = _name(metadata)
    if kind == "Revision":
        found += via(admission_annotations.autoscaling(annotations, cluster), "annotations")
    else:
        found += via(admission_annotations.misplaced(annotations), "annotations")
    if kind in ("Service", "Route"):
        found += via(admission_annotations.rollout(annotations), "annotations")
    owner = _OWNED_BY.get(kind)
    if owner:
        found += via(_owner(metadata, owner), "labels")
    return found


def _name(metadata: Object) -> list[Fault]:
    prefix, name = metadata.get("generateName", ""), metadata.get("name", "")
    wrong = names.dns_1035_label(names.as_prefix(prefix)) if prefix else []
    if wrong:
        return [Fault(f"not a DNS 1035 label prefix: [{' '.join(wrong)}]", ("generateName",))]
    wrong = names.dns_1035_label(name)
    return [Fault(f"not a DNS 1035 label: [{' '.join(wrong)}]", ("name",))] if wrong else []


def _owner(metadata: Object, kind: str) -> list[Fault]:
    label = f"serving.knative.dev/{kind.lower()}"
    value = metadata.get("labels", {}).get(label)
    owners = ((ref.get("kind"), ref.get("name")) for ref in metadata.get("ownerReferences", []))
    return [] if value is None or (kind, value) in owners else [missing(label)]


def _template(template: Object, parent: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    metadata = template.get("metadata", {})
    annotations = metadata.get("annotations", {})
    found = via(_revision(template.get("spec", {}), cluster), "spec")
    checked = admission_annotations.template(annotations, cluster)
    found += via(checked, "metadata.annotations")
    return found + _template_name(metadata, parent)


def _template_name(metadata: Object, parent: Object) -> list[Fault]:
    prefix, name = metadata.get("generateName", ""), metadata.get("name", "")
    wrong = names.dns_1035_label(names.as_prefix(prefix)) if prefix else []
    if wrong:
        message = f"not a DNS 1035 label prefix: [{' '.join(wrong)}]"
        return [invalid(message, "metadata.generateName")]
    wrong = names.dns_1035_label(name) if name else []
    if wrong:
        return [invalid(f"not a DNS 1035 label: [{' '.join(wrong)}]", "metadata.name")]
    start = f"{parent.get('name', '')}-"
    if name and not name.startswith(start):
        return [invalid(f'"{name}" must have prefix "{start}"', "metadata.name")]
    return []


def _revision(spec: Object, cluster: ClusterConfigMaps) -> list[Fault]:
    found = pod_faults(spec, cluster)
    timeout, most = spec.get("timeoutSeconds", 0), cluster.number("max-revision-timeout-seconds")
    if not 0 <= timeout <= most:
        found.append(out_of_bounds(timeout, 0, most, "timeoutSeconds"))
    concurrency = spec.get("containerConcurrency", 0)
    low, high = cluster.least_concurrency, cluster.number("container-concurrency-max-limit")
    if "containerConcurrency" in spec and not low <= concurrency <= high:
        found.append(out_of_bounds(concurrency, low, high, "containerConcurrency"))
    return found


def _traffic(targets: Sequence[Object], kind: str) -> list[Fault]:
    found: list[Fault] = []
    first: dict[str, int] = {}
    for index, target in enumerate(targets):
        found += via(_target(target, kind), f"[{index}]")
        tag = target.get("tag", "")
        wrong = names.dns_1035_label(tag) if tag else []
        if wrong:
            shown = f"not a DNS 1035 label: [{' '.join(wrong)}]"
            found += via([invalid(shown, HERE)], "tag", f"[{index}]")
        if tag and first.setdefault(tag, index) != index:
            paths = (f"[{index}].tag", f"[{first[tag]}].tag")
            found.append(Fault(f'Multiple definitions for "{tag}"', paths))
    total = sum(target.get("percent", 0) for target in targets)
    if total != 100:
        found.append(Fault(f"Traffic targets sum to {total}, want 100", (HERE,)))
    return found


def _target(target: Object, kind: str) -> list[Fault]:
    revision, percent = target.get("revisionName", ""), target.get("percent", 0)
    latest = target.get("latestRevision")
    found = []
    if latest is not None and latest == bool(revision):
        shown = f'may not set revisionName "{revision}" when latestRevision is'
        found.append(Fault(f"{shown} {str(latest).lower()}", ("latestRevision",)))
    found += _target_names(revision, target.get("configurationName", ""), kind)
    if not 0 <= percent <= 100:
        found.append(out_of_bounds(percent, 0, 100, "percent"))
    if target.get("url"):
        found.append(disallowed("url"))
    return found


def _target_names(revision: str, configuration: str, kind: str) -> list[Fault]:
    if kind == "Service" and configuration:
        return [disallowed("configurationName")]
    if revision and configuration:
        return [multiple_one_of("revisionName", "configurationName")]
    if kind == "Route" and not revision and not configuration:
        return [missing_one_of("revisionName", "configurationName")]
    for value, path in ((revision, "revisionName"), (configuration, "configurationName")):
        wrong = names.qualified_name(value) if value else []
        if wrong:
            return [invalid_key(value, path, *wrong)]
    return []
