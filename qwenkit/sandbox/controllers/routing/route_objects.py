"""The Ingress and the placeholder Services of a Route."""

from __future__ import annotations

import json
from collections.abc import Iterator

from qwenkit.sandbox.controllers.knative import names
from qwenkit.sandbox.controllers.loop import owner_reference
from qwenkit.sandbox.controllers.routing.domains import Domains
from qwenkit.sandbox.controllers.routing.rollout import Rollout, Share, dump
from qwenkit.sandbox.controllers.routing.traffic_plan import MAIN, Plan, Target
from qwenkit.sandbox.kube.objects import Object, at

INGRESS_CLASS = "networking.knative.dev/ingress.class"
ROLLOUT = "networking.internal.knative.dev/rollout"
_TAG_HOSTS = "networking.internal.knative.dev/tag-to-host"
_KOURIER = "kourier.ingress.networking.knative.dev"
_PORT = {"name": "http2", "port": 80, "targetPort": 80, "appProtocol": "kubernetes.io/h2c"}


def ingress_for(route: Object, plan: Plan, rollout: Rollout, domains: Domains) -> Object:
    """Return the Ingress that sends a Route's hosts to its targets, as far as it is rolled out."""
    metadata = route["metadata"]
    rules, tag_hosts = [], {}
    for tag in sorted(plan.by_tag):
        path = _path(metadata["namespace"], tag, plan.by_tag[tag], rollout)
        local, public = domains.local_names(tag), domains.public(tag)
        rules.append(_rule(local, "ClusterLocal", path))
        if not domains.is_local(tag):
            rules.append(_rule([public], "ExternalIP", path))
        if tag != MAIN:
            tag_hosts[tag] = list(dict.fromkeys([domains.local(tag), public]))
    annotations = {
        INGRESS_CLASS: domains.network.get("ingress-class", _KOURIER),
        ROLLOUT: dump(rollout),
        **names.without(metadata.get("annotations"), (names.LAST_APPLIED, *names.ROLLOUT_DURATION)),
    }
    if tag_hosts:
        annotations[_TAG_HOSTS] = json.dumps(tag_hosts, separators=(",", ":"))
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": {
                **metadata.get("labels", {}),
                names.ROUTE: metadata["name"],
                f"{names.SERVING}/routeNamespace": metadata["namespace"],
            },
            "annotations": annotations,
            "ownerReferences": [owner_reference(route)],
        },
        "spec": {"httpOption": "Enabled", "rules": rules},
    }


def placeholder_for(route: Object, tag: str, domains: Domains) -> Object:
    """Return the Service that holds a target's name until the load balancer is known."""
    metadata = route["metadata"]
    labels = names.without(metadata.get("labels"), (names.VISIBILITY,))
    return {
        "metadata": {
            "name": domains.hostname(tag),
            "namespace": metadata["namespace"],
            "labels": {**labels, names.ROUTE: metadata["name"]},
            "annotations": metadata.get("annotations", {}),
            "ownerReferences": [owner_reference(route)],
        },
        "spec": {
            "type": "ExternalName",
            "externalName": domains.public(tag),
            "sessionAffinity": "None",
            "ports": [_PORT],
        },
    }


def balancer_name(ingress: Object) -> str:
    """Return the inner load balancer's host name, "" while it is not known."""
    name: str = at(ingress, "status", "privateLoadBalancer", "ingress", 0, "domainInternal") or ""
    return name


def traffic_status(plan: Plan, domains: Domains, rollout: Rollout | None = None) -> list[Object]:
    """Return ``status.traffic``: where the traffic goes in the end, or now, during a rollout."""
    entries = []
    for target in plan.targets:
        for share in _shares(target, target.tag, rollout):
            entry: Object = {"percent": share.percent, "revisionName": share.revision}
            if target.latest is not None:
                entry["latestRevision"] = target.latest
            if target.tag:
                entry |= {"tag": target.tag, "url": f"http://{domains.public(target.tag)}"}
            entries.append(entry)
    return entries


def _rule(hosts: list[str], visibility: str, path: Object) -> Object:
    return {"hosts": hosts, "visibility": visibility, "http": {"paths": [path]}}


def _path(namespace: str, tag: str, targets: list[Target], rollout: Rollout) -> Object:
    return {
        "splits": [
            {
                "serviceName": share.revision,
                "serviceNamespace": namespace,
                "servicePort": 81 if target.h2c else 80,
                "percent": share.percent,
                "appendHeaders": {
                    "Knative-Serving-Namespace": namespace,
                    "Knative-Serving-Revision": share.revision,
                },
            }
            for target in targets
            if target.percent
            for share in _shares(target, tag, rollout)
        ]
    }


def _shares(target: Target, tag: str, rollout: Rollout | None) -> Iterator[Share]:
    part = rollout.find(tag, target.configuration) if rollout and target.latest else None
    if part and not part.done:
        yield from part.shares
    else:
        yield Share(target.revision, target.percent)
