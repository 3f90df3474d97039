"""Whether the API server and Knative's webhooks accept an object, without a cluster.

``review`` takes the steps of a request: the API server drops fields that its schema lacks; the
mutating webhook decodes the object and fills in defaults; the API server validates metadata and
schema; the validating webhook checks Knative's rules; in a dry run, the API server validates the
pod. The first refusal ends it, in the words of the component that refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qwenkit.admission import faults
from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.defaults import filled
from qwenkit.admission.field_errors import joined
from qwenkit.admission.metadata import metadata_errors
from qwenkit.admission.object_rules import object_faults
from qwenkit.admission.pod.dry_run import dry_run_refusal
from qwenkit.admission.schema import knative
from qwenkit.admission.schema.decode import DecodeError, decode, decode_metadata, duplicates, nulls
from qwenkit.errors import Rejected

GROUP = "serving.knative.dev"
_NAME_LENGTH = 63
_SUFFIX_LENGTH = 5


def default(
    obj: Mapping[str, Any],
    *,
    old: Mapping[str, Any] | None = None,
    features: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
    user: str | None = None,
) -> dict[str, Any]:
    """Return ``obj`` as the mutating webhook changes it; the arguments are those of ``review``.

    Raises:
        Rejected: the object cannot be decoded.
    """
    kind = _kind(obj)
    metadata = _metadata(obj, kind)
    try:
        decoded = decode(obj, kind)
    except DecodeError as error:
        refusal = f"mutation failed: cannot decode incoming new object: {error}"
        raise _denied("webhook.serving.knative.dev", refusal) from None
    new = decoded | {"metadata": metadata}
    return filled(
        new, kind, cluster=ClusterConfigMaps(features or {}, defaults or {}), old=old, user=user
    )


def review(
    obj: Mapping[str, Any],
    *,
    old: Mapping[str, Any] | None = None,
    features: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
    autoscaler: Mapping[str, str] | None = None,
    dry_run: bool = True,
    user: str | None = None,
    service_accounts: Collection[str] = ("default",),
    suffix: str = "00000",
    namespace: str | None = None,
) -> dict[str, Any]:
    """Return ``obj`` with its defaults if the cluster accepts it.

    Args:
        obj: a Service, Configuration, Revision or Route of serving.knative.dev/v1.
        old: the stored object, for an update.
        features: entries of the ConfigMap config-features.
        defaults: entries of config-defaults.
        autoscaler: entries of config-autoscaler.
        dry_run: the request is a server-side dry run; only then Knative has the pod validated.
        user: recorded as creator and last modifier.
        service_accounts: those that exist in the object's namespace.
        suffix: the random end of generated names.
        namespace: where the request goes: by default that of ``old``, else the object's own.

    Raises:
        Rejected: ``what`` is the whole message; ``context`` has ``status`` and ``reason``.
    """
    kind = _kind(obj)
    _check_namespace(obj, old, namespace)
    new = default(obj, old=old, features=features, defaults=defaults, user=user)
    _check_version(new["metadata"], old, kind)
    named = {**new, "metadata": _named(new["metadata"], suffix)}
    _validate_schema(named, kind)
    cluster = ClusterConfigMaps(features or {}, defaults or {}, autoscaler or {})
    found = list(object_faults(named, kind, cluster=cluster, old=old))
    if found:
        refusal = f"validation failed: {faults.text(found)}"
        raise _denied("validation.webhook.serving.knative.dev", refusal)
    if dry_run and kind in ("Service", "Configuration"):
        _try_pod(named, service_accounts, suffix)
    return new


def _kind(obj: Mapping[str, Any]) -> str:
    kind, version = obj.get("kind"), obj.get("apiVersion")
    if version != f"{GROUP}/v1" or not isinstance(kind, str) or kind not in knative.SPECS:
        message = f'no matches for kind "{kind}" in version "{version}"'
        raise Rejected(message, status=404, reason="NotFound")
    return kind


def _metadata(obj: Mapping[str, Any], kind: str) -> dict[str, Any]:
    try:
        return decode_metadata(obj.get("metadata") or {})
    except DecodeError as error:
        message = f'{kind} in version "v1" cannot be handled as a {kind}: {error}'
        raise Rejected(message, status=400, reason="BadRequest") from None


def _check_namespace(
    obj: Mapping[str, Any], old: Mapping[str, Any] | None, namespace: str | None
) -> None:
    given, before = ((one or {}).get("metadata") or {} for one in (obj, old))
    sent_to = namespace or before.get("namespace")
    if sent_to and isinstance(given, Mapping) and given.get("namespace", sent_to) != sent_to:
        message = "the namespace of the provided object does not match the namespace sent on the"
        raise Rejected(f"{message} request", status=400, reason="BadRequest")


def _check_version(metadata: Mapping[str, Any], old: Mapping[str, Any] | None, kind: str) -> None:
    version = metadata.get("resourceVersion")
    if old and version and version != old["metadata"].get("resourceVersion"):
        what = f'{kind.lower()}s.{GROUP} "{metadata.get("name", "")}"'
        why = "the object has been modified; please apply your changes to the latest version and"
        message = f"Operation cannot be fulfilled on {what}: {why} try again"
        raise Rejected(message, status=409, reason="Conflict")


def _named(metadata: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    prefix = metadata.get("generateName", "")
    if metadata.get("name") or not prefix:
        return dict(metadata)
    return {**metadata, "name": prefix[: _NAME_LENGTH - _SUFFIX_LENGTH] + suffix}


def _validate_schema(obj: Mapping[str, Any], kind: str) -> None:
    found = [str(error) for error in metadata_errors(obj["metadata"])]
    for path in nulls(obj["spec"], knative.SPECS[kind], "spec"):
        rule = f'{path} in body must be of type array: "null"'
        found.append(f'{path}: Invalid value: "null": {rule}')
    found += [
        f"{place}: Duplicate value: {key}"
        for place, key in duplicates(obj["spec"], knative.SPECS[kind], "spec")
    ]
    if found:
        name = obj["metadata"].get("name", "")
        message = f'{kind}.{GROUP} "{name}" is invalid: {joined(found)}'
        raise Rejected(message, status=422, reason="Invalid")


def _try_pod(obj: Mapping[str, Any], service_accounts: Collection[str], suffix: str) -> None:
    refused = dry_run_refusal(
        obj["spec"]["template"]["spec"],
        namespace=obj["metadata"].get("namespace", "default"),
        service_accounts=service_accounts,
        suffix=suffix,
    )
    if refused is not None:
        message = f"validation callback failed: dry run failed with {refused}: spec.template"
        raise _denied("validation.webhook.serving.knative.dev", message)


def _denied(webhook: str, message: str) -> Rejected:
    what = f'admission webhook "{webhook}" denied the request: {message}'
    return Rejected(what, status=400, reason="BadRequest")
