"""What Kubernetes says about the pod that Knative would make of a revision.

Only for requests that are dry runs themselves: Knative then tries the pod, and passes on the
API server's refusal. Covered are the fields that a revision can set.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

from qwenkit.admission.schema import names, quantities

Object = Mapping[str, Any]
_NAME = "dry-run-validation"
_STANDARD = ("cpu", "memory", "ephemeral-storage")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")


def refusal(
    spec: Object, *, namespace: str, service_accounts: Collection[str], suffix: str
) -> str | None:
    """Return the API server's words about the pod, or ``None`` if it would be made.

    Args:
        spec: the revision's spec with its defaults.
        namespace: where the pod would be.
        service_accounts: those that exist there.
        suffix: the random end of the pod's generated name.
    """
    account = spec.get("serviceAccountName") or "default"
    if account not in service_accounts:
        return (
            f'pods "{_NAME}" is forbidden: error looking up service account '
            f'{namespace}/{account}: serviceaccount "{account}" not found'
        )
    found = pod_complaints(spec)
    if not found:
        return None
    shown = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
    return f'Pod "{_NAME}{suffix}" is invalid: {shown}'


def pod_complaints(spec: Object) -> list[str]:
    """Check the pod's spec; one complaint each, with its path."""
    found: list[str] = []
    for index, volume in enumerate(spec.get("volumes", [])):
        found += _volume(volume, f"spec.volumes[{index}]")
    seen: set[str] = set()
    for index, container in enumerate(spec.get("containers", [])):
        found += _container(container, f"spec.containers[{index}]", seen)
        seen.add(container.get("name", ""))
    if "queue-proxy" in seen:
        found.append(_duplicate("spec.containers", "queue-proxy"))
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy not in _DNS_POLICIES:
        found.append(_unsupported("spec.dnsPolicy", policy, _DNS_POLICIES))
    for key, value in sorted(spec.get("nodeSelector", {}).items()):
        found += _all("spec.nodeSelector", key, names.qualified_name(key))
        found += _all("spec.nodeSelector", value, names.label_value(value))
    return found


def _volume(volume: Object, path: str) -> list[str]:
    claim = volume.get("persistentVolumeClaim")
    if claim is not None and not claim.get("claimName"):
        return [f"{path}.persistentVolumeClaim.claimName: Required value"]
    for source, name in (("configMap", "name"), ("secret", "secretName")):
        if source in volume and not volume[source].get(name):
            return [f"{path}.{source}.{name}: Required value"]
    return []


def _container(container: Object, path: str, seen: set[str]) -> list[str]:
    name = container.get("name", "")
    found = _all(f"{path}.name", name, names.dns_1123_label(name, unit="bytes"))
    if name in seen:
        found.append(_duplicate(f"{path}.name", name))
    image = container.get("image", "")
    if image != image.strip():
        rule = "must not have leading or trailing whitespace"
        found.append(_invalid(f"{path}.image", image, rule))
    policy = container.get("imagePullPolicy") or "Always"
    if policy not in _PULL_POLICIES:
        found.append(_unsupported(f"{path}.imagePullPolicy", policy, _PULL_POLICIES))
    for index, variable in enumerate(container.get("env", [])):
        found += _variable(variable, f"{path}.env[{index}]")
    for index, mount in enumerate(container.get("volumeMounts", [])):
        found += _mount(mount, f"{path}.volumeMounts[{index}]")
    for name in ("livenessProbe", "startupProbe"):
        if name in container:
            found += _probe(container[name], f"{path}.{name}")
    return found + _resources(container.get("resources", {}), f"{path}.resources")


def _variable(variable: Object, path: str) -> list[str]:
    name = variable.get("name", "")
    found = []
    if not all(" " <= letter <= "~" and letter != "=" for letter in name):
        rule = "a valid environment variable name must consist only of printable ASCII"
        found.append(_invalid(f"{path}.name", name, f"{rule} characters other than '='"))
    source = variable.get("valueFrom")
    if source is None:
        return found
    if variable.get("value"):
        rule = "may not be specified when `value` is not empty"
        found.append(_invalid(f"{path}.valueFrom", "", rule))
    if not source:
        rule = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or"
        found.append(_invalid(f"{path}.valueFrom", "", f"{rule} `secretKeyRef`"))
    for kind in ("configMapKeyRef", "secretKeyRef"):
        for field in ("name", "key") if kind in source else ():
            if not source[kind].get(field):
                found.append(f"{path}.valueFrom.{kind}.{field}: Required value")
    return found


def _mount(mount: Object, path: str) -> list[str]:
    found = []
    sub_path = mount.get("subPath", "")
    if sub_path.startswith("/"):
        found.append(_invalid(f"{path}.subPath", sub_path, "must be a relative path"))
    if ".." in sub_path.split("/"):
        found.append(_invalid(f"{path}.subPath", sub_path, "must not contain '..'"))
    return found


def _probe(probe: Object, path: str) -> list[str]:
    found = [
        _invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
        for name in (
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        )
        if probe.get(name, 0) < 0
    ]
    if probe.get("successThreshold", 0) > 1:
        found.append(_invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    scheme = probe.get("httpGet", {}).get("scheme") or "HTTP"
    if scheme not in ("HTTP", "HTTPS"):
        found.append(_unsupported(f"{path}.httpGet.scheme", scheme, ("HTTP", "HTTPS")))
    return found


def _resources(resources: Object, path: str) -> list[str]:
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    found: list[str] = []
    for side, amounts in (("limits", limits), ("requests", {**limits, **requests})):
        for name, amount in sorted(amounts.items()):
            if side == "limits" or name in requests:
                found += _amount(name, amount, f"{path}.{side}[{name}]")
            if side == "requests":
                found += _within_limit(name, amount, limits, path)
    return found


def _amount(name: str, amount: str, path: str) -> list[str]:
    found = _resource_name(name, path)
    number = quantities.parse(amount)
    if number < 0:
        found.append(_invalid(path, amount, "must be greater than or equal to 0"))
    if _is_extended(name) and _milli(number) % 1000:
        found.append(_invalid(path, amount, "must be an integer"))
    return found


def _milli(number: Fraction) -> int:
    return int(-(-number * 1000 // 1))


def _resource_name(name: str, path: str) -> list[str]:
    complaints = names.qualified_name(name)
    if not complaints and "/" not in name and not _is_standard(name):
        complaints.append("must be a standard resource type or fully qualified")
        complaints.append("must be a standard resource for containers")
    elif not complaints and name.startswith("requests."):
        complaints.append("doesn't follow extended resource name standard")
    return _all(path, name, complaints)


def _within_limit(name: str, amount: str, limits: Mapping[str, str], path: str) -> list[str]:
    exact = _is_extended(name) or name.startswith("hugepages-")
    if name not in limits:
        rule = "Required value: Limit must be set for non overcommitable resources"
        return [f"{path}.limits: {rule}"] if exact else []
    number, limit = quantities.parse(amount), quantities.parse(limits[name])
    if exact and number != limit:
        rule = f"must be equal to {name} limit of {limits[name]}"
    elif number > limit:
        rule = f"must be less than or equal to {name} limit of {limits[name]}"
    else:
        return []
    return [_invalid(f"{path}.requests", amount, rule)]


def _is_standard(name: str) -> bool:
    return name in _STANDARD or name.startswith("hugepages-")


def _is_extended(name: str) -> bool:
    native = "/" not in name or "kubernetes.io/" in name
    return not native and not name.startswith("requests.")


def _all(path: str, value: str, rules: Sequence[str]) -> list[str]:
    if path.endswith(".name") and not value:
        return [f"{path}: Required value"]
    return [_invalid(path, value, rule) for rule in rules]


def _invalid(path: str, value: object, rule: str) -> str:
    return f"{path}: Invalid value: {json.dumps(value, ensure_ascii=False)}: {rule}"


def _unsupported(path: str, value: str, known: Sequence[str]) -> str:
    supported = ", ".join(f'"{name}"' for name in known)
    return f'{path}: Unsupported value: "{value}": supported values: {supported}'


def _duplicate(path: str, value: str) -> str:
    return f'{path}: Duplicate value: "{value}"'
