"""What is wrong with manifests before they are sent: the webhooks' refusals and our advice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from qwenkit.admission.config_maps import ALL_FEATURES, PVC_FLAG, PVC_WRITE_FLAG
from qwenkit.admission.review import GROUP, review
from qwenkit.admission.schema.knative import SPECS
from qwenkit.capacity.finding import Finding, worst_first
from qwenkit.errors import Rejected
from qwenkit.manifests import lint_scaling, lint_server, lint_storage
from qwenkit.manifests.documents import Doc, at, place, unreadable
from qwenkit.manifests.template import plain

_AHPA = "ahpa.autoscaling.knative.dev"  # ACK's own; the Knative that is known here refuses it
_FIXES = (
    ("Persistent volume", f"an administrator sets {PVC_FLAG}: enabled in the ConfigMap "
     "knative-serving/config-features; and mount it read-only"),
    (r"must not set the field\(s\)",
     "remove the field, or have its flag enabled in knative-serving/config-features"),
    ("no matches for kind", f"write apiVersion: {GROUP}/v1"),
    ("cannot unmarshal number.* of type string", "put the value in quotes"),
    ("cannot unmarshal string.* of type (int|bool|float)", "write the value without quotes"),
    ("quantities must match", "write quantities such as 16Gi, 4 or 500m"),
)  # fmt: skip
_STOCK = {PVC_FLAG: "enabled", PVC_WRITE_FLAG: "enabled"}  # as shipped, but for our volumes
_ANY_TIMEOUT = {"max-revision-timeout-seconds": str(2**31 - 1)}


def lint(
    docs: Iterable[Mapping[str, Any]],
    *,
    features: Mapping[str, str] | None = None,
    gpu: str | None = None,
) -> list[Finding]:
    """Examine documents that belong together; errors come first.

    Args:
        docs: Secrets, volumes, claims and Knative Services; other kinds are ignored.
        features: the cluster's ConfigMap config-features. Unknown (``None``): what a cluster
            may allow counts as allowed, and the server-side dry run asks it.
        gpu: the GPU of the nodes, by its name in the table, if known.

    >>> from qwenkit import Settings, lint, render
    >>> {finding.level for finding in lint(render(Settings()))} <= {"warning", "advice"}
    True
    """
    plain_docs: list[Doc] = []
    found: list[Finding] = []
    for doc in docs:
        if why := unreadable(doc):
            found.append(Finding("error", "unreadable", "document", why, "write it by hand"))
        elif isinstance(doc, Mapping):
            plain_docs.append(plain(doc))
    known = {"features": features, "defaults": None}
    if features is None:
        known = {"features": ALL_FEATURES, "defaults": _ANY_TIMEOUT}
    return worst_first([*found, *examine(plain_docs, **known, gpu=gpu)])


def examine(
    docs: list[Doc],
    *,
    features: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
    gpu: str | None = None,
) -> list[Finding]:
    """Examine plain documents for a cluster; each ``where`` is a ``FieldPlace``.

    Without ``features``, those of a stock Knative that allows volume claims; ``defaults`` is its
    ConfigMap config-defaults.
    """
    found, fuse = lint_storage.findings(docs), lint_storage.fuse_client(docs)
    for doc in docs:
        if str(doc.get("apiVersion", "")).startswith(f"{GROUP}/") and str(doc.get("kind")) in SPECS:
            found += _service(doc, _STOCK if features is None else features, defaults, gpu, fuse)
    return worst_first(found)


def refuse(findings: Iterable[Finding]) -> None:
    """Raise the first error among the findings, before anything is sent.

    Raises:
        Rejected: there is one; it names the place and the fix.
    """
    for finding in findings:
        if finding.level == "error":
            raise Rejected(
                f"{finding.where} would not work: {finding.rule}", finding.message, finding.fix
            )


def _service(
    doc: Doc,
    features: Mapping[str, str],
    defaults: Mapping[str, str] | None,
    gpu: str | None,
    fuse: str,
) -> list[Finding]:
    try:
        review(doc, features=features, defaults=defaults)
    except Rejected as refusal:
        found = [Finding("error", "admission", place(doc), refusal.what, _fix(refusal.what))]
        found = [] if f"invalid value: {_AHPA}" in refusal.what else found
        unreadable = "cannot decode" in refusal.what or refusal.context["status"] != 400
        if unreadable or "cannot be handled" in refusal.what:
            return found
    else:
        found = []
    if at(doc, "spec", "template", "spec", "containers"):
        found += [*lint_scaling.findings(doc), *lint_server.findings(doc, gpu, fuse)]
    return found


def _fix(message: str) -> str:
    fixes = [fix for pattern, fix in _FIXES if re.search(pattern, message)]
    fields = re.search(r": ((?:(?:, )?(?:spec|metadata)[\w./\[\]*-]*)+)", message)
    return [*fixes, f"change {fields[1]}" if fields else "change what the message names"][0]
