"""Which Ingress and which placeholder Services does a Route get?"""

from __future__ import annotations

import json
from collections.abc import Iterator

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.object_fields import (
    annotations_of,
    child_metadata,
    key_of,
    labels_of,
)
from qwenkit.sandbox.controllers.routing.domains import Domains
from qwenkit.sandbox.controllers.routing.rollout import Rollout, Share, dump
from qwenkit.sandbox.controllers.routing.traffic_plan import MAIN, TrafficPlan, TrafficTarget
from qwenkit.sandbox.kube.objects import Object, at

_PORT = {"name": "http2", "port": 80, "targetPort": 80, "appProtocol": "kubernetes.io/h2c"}


def ingress_for(route: Object, plan: TrafficPlan, rollout: Rollout, domains: Domains) -> Object:
    """Return the Ingress that sends a Route's hosts to its targets at this point of a rollout."""
    namespace, name = key_of(route)
    rules, tag_hosts = [], {}
    for tag in sorted(plan.by_tag):
        path = _path(namespace, tag, plan.by_tag[tag], rollout)
        local, public = domains.local_names(tag), domains.public(tag)
        rules.append(_rule(local, "ClusterLocal", path))
        if not domains.is_local(tag):
            rules.append(_rule([public], "ExternalIP", path))
        if tag != MAIN:
            tag_hosts[tag] = list(dict.fromkeys([domains.local(tag), public]))
    annotations = {
        names.INGRESS_CLASS: domains.network.get("ingress-class", names.KOURIER),
        names.ROLLOUT: dump(rollout),
        **names.without(annotations_of(route), (names.LAST_APPLIED, *names.ROLLOUT_DURATION)),
    }
    if tag_hosts:
        annotations[names.TAG_TO_HOST] = json.dumps(tag_hosts, separators=(",", ":"))
    labels = labels_of(route) | {names.ROUTE: name, names.ROUTE_NAMESPACE: namespace}
    return {
        "metadata": child_metadata(route, name, labels, annotations),
        "spec": {"httpOption": "Enabled", "rules": rules},
    }


def placeholder_for(route: Object, tag: str, domains: Domains) -> Object:
    """Return the Service that reserves a target's name until the load balancer is known."""
    labels = names.without(labels_of(route), (names.VISIBILITY,))
    labels[names.ROUTE] = route["metadata"]["name"]
    return {
        "metadata": child_metadata(route, domains.hostname(tag), labels, annotations_of(route)),
        "spec": {
            "type": "ExternalName",
            "externalName": domains.public(tag),
            "sessionAffinity": "None",
            "ports": [_PORT],
        },
    }


def balancer_name(ingress: Object) -> str:
    """Return the host name of the cluster's own load balancer, "" if it is not known yet."""
    name: str = at(ingress, "status", "privateLoadBalancer", "ingress", 0, "domainInternal") or ""
    return name


def traffic_status(
    plan: TrafficPlan, domains: Domains, rollout: Rollout | None = None
) -> list[Object]:
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


def _path(namespace: str, tag: str, targets: list[TrafficTarget], rollout: Rollout) -> Object:
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


def _shares(target: TrafficTarget, tag: str, rollout: Rollout | None) -> Iterator[Share]:
    part = rollout.find(tag, target.configuration) if rollout and target.latest else None
    if part and not part.done:
        yield from part.shares
    else:
        yield Share(target.revision, target.percent)
