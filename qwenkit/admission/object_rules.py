"""What Knative's webhook refuses in an object: metadata, template, traffic, updates."""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.admission import annotations as admission_annotations
from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import (
    HERE,
    Fault,
    Faults,
    Object,
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

_OWNED_BY = {"Route": "Service", "Configuration": "Service", "Revision": "Configuration"}


def object_faults(
    obj: Object, kind: str, *, cluster: ClusterConfigMaps, old: Object | None = None
) -> Faults:
    """Check an object that has its defaults and its name; ``old`` is the one that it updates."""
    metadata, spec = obj.get("metadata", {}), obj.get("spec", {})
    yield from via(_metadata(metadata, kind, cluster), "metadata")
    if kind in ("Service", "Configuration"):
        template = _template(spec.get("template", {}), metadata, cluster)
        yield from via(template, "spec", "template")
    if kind in ("Service", "Route"):
        yield from via(_traffic(spec.get("traffic", []), kind), "spec", "traffic")
    if kind == "Revision" and old is None:
        yield from via(_revision(spec, cluster), "spec")
    if old is not None:
        yield from update_faults(obj, old, kind)


def _metadata(metadata: Object, kind: str, cluster: ClusterConfigMaps) -> Faults:
    annotations = metadata.get("annotations", {})
    for field, message in _name_problems(metadata):
        yield Fault(message, (field,))
    if kind == "Revision":
        yield from via(admission_annotations.autoscaling(annotations, cluster), "annotations")
    else:
        yield from via(admission_annotations.misplaced(annotations), "annotations")
    if kind in ("Service", "Route"):
        yield from via(admission_annotations.rollout(annotations), "annotations")
    if owner := _OWNED_BY.get(kind):
        yield from via(_owner(metadata, owner), "labels")


def _name_problems(metadata: Object) -> list[tuple[str, str]]:
    """Return field and message of the first name that is not a DNS label, if any."""
    prefix, name = metadata.get("generateName", ""), metadata.get("name", "")
    if prefix and (wrong := names.dns_1035_label(names.as_prefix(prefix))):
        return [("generateName", f"not a DNS 1035 label prefix: [{' '.join(wrong)}]")]
    if name and (wrong := names.dns_1035_label(name)):
        return [("name", f"not a DNS 1035 label: [{' '.join(wrong)}]")]
    return []


def _owner(metadata: Object, kind: str) -> Faults:
    label = f"serving.knative.dev/{kind.lower()}"
    value = metadata.get("labels", {}).get(label)
    owners = ((ref.get("kind"), ref.get("name")) for ref in metadata.get("ownerReferences", []))
    if value is not None and (kind, value) not in owners:
        yield missing(label)


def _template(template: Object, parent: Object, cluster: ClusterConfigMaps) -> Faults:
    metadata = template.get("metadata", {})
    yield from via(_revision(template.get("spec", {}), cluster), "spec")
    checked = admission_annotations.template(metadata.get("annotations", {}), cluster)
    yield from via(checked, "metadata.annotations")
    problems = _name_problems(metadata)
    for field, message in problems:
        yield invalid(message, f"metadata.{field}")
    name, start = metadata.get("name", ""), f"{parent.get('name', '')}-"
    if not problems and name and not name.startswith(start):
        yield invalid(f'"{name}" must have prefix "{start}"', "metadata.name")


def _revision(spec: Object, cluster: ClusterConfigMaps) -> Faults:
    yield from pod_faults(spec, cluster)
    timeout, most = spec.get("timeoutSeconds", 0), cluster.number("max-revision-timeout-seconds")
    if not 0 <= timeout <= most:
        yield out_of_bounds(timeout, 0, most, "timeoutSeconds")
    concurrency = spec.get("containerConcurrency", 0)
    low, high = cluster.least_concurrency, cluster.number("container-concurrency-max-limit")
    if "containerConcurrency" in spec and not low <= concurrency <= high:
        yield out_of_bounds(concurrency, low, high, "containerConcurrency")


def _traffic(targets: Sequence[Object], kind: str) -> Faults:
    first: dict[str, int] = {}
    for index, target in enumerate(targets):
        yield from via(_target(target, kind), f"[{index}]")
        tag = target.get("tag", "")
        wrong = names.dns_1035_label(tag) if tag else []
        if wrong:
            yield invalid(f"not a DNS 1035 label: [{' '.join(wrong)}]", f"tag[{index}]")
        if tag and first.setdefault(tag, index) != index:
            paths = (f"[{index}].tag", f"[{first[tag]}].tag")
            yield Fault(f'Multiple definitions for "{tag}"', paths)
    total = sum(target.get("percent", 0) for target in targets)
    if total != 100:
        yield Fault(f"Traffic targets sum to {total}, want 100", (HERE,))


def _target(target: Object, kind: str) -> Faults:
    revision, percent = target.get("revisionName", ""), target.get("percent", 0)
    latest = target.get("latestRevision")
    if latest is not None and latest == bool(revision):
        shown = f'may not set revisionName "{revision}" when latestRevision is'
        yield Fault(f"{shown} {str(latest).lower()}", ("latestRevision",))
    yield from _target_names(revision, target.get("configurationName", ""), kind)
    if not 0 <= percent <= 100:
        yield out_of_bounds(percent, 0, 100, "percent")
    if target.get("url"):
        yield disallowed("url")


def _target_names(revision: str, configuration: str, kind: str) -> Faults:
    if kind == "Service" and configuration:
        yield disallowed("configurationName")
    elif revision and configuration:
        yield multiple_one_of("revisionName", "configurationName")
    elif kind == "Route" and not revision and not configuration:
        yield missing_one_of("revisionName", "configurationName")
    elif wrong := names.qualified_name(revision) if revision else []:
        yield invalid_key(revision, "revisionName", *wrong)
    elif wrong := names.qualified_name(configuration) if configuration else []:
        yield invalid_key(configuration, "configurationName", *wrong)
