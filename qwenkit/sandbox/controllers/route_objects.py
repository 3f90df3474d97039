"""The Ingress and the placeholder Services of a Route, and the domains they use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.loop import owner_reference
from qwenkit.sandbox.controllers.traffic_plan import MAIN, Plan, Target
from qwenkit.sandbox.kube.objects import Object, at

INGRESS_CLASS = "networking.knative.dev/ingress.class"
_ROLLOUT = "networking.internal.knative.dev/rollout"
_TAG_HOSTS = "networking.internal.knative.dev/tag-to-host"
_LOCAL_DOMAIN = "svc.cluster.local"
_KOURIER = "kourier.ingress.networking.knative.dev"
_PORT = {"name": "http2", "port": 80, "targetPort": 80, "appProtocol": "kubernetes.io/h2c"}

Config = Callable[[str], Mapping[str, str]]


class Domains:
    """Names hosts as the cluster's ConfigMaps say."""

    def __init__(self, config: Config, route: Object) -> None:
        self._network = config("config-network")
        self._domains = config("config-domain")
        self._route = route
        labels = route["metadata"].get("labels", {})
        self.local_only = labels.get(names.VISIBILITY) == "cluster-local"

    def hostname(self, tag: str) -> str:
        """Return the first part of a target's address; also its placeholder Service's name."""
        name: str = self._route["metadata"]["name"]
        if not tag:
            return name
        template = self._network.get("tag-template", "{{.Tag}}-{{.Name}}")
        return _filled(template, Tag=tag, Name=name)

    def local(self, tag: str) -> str:
        """Return a target's full name inside the cluster."""
        return f"{self.hostname(tag)}.{self._route['metadata']['namespace']}.{_LOCAL_DOMAIN}"

    def public(self, tag: str) -> str:
        """Return a target's full name for the world, or the inner one if it is local."""
        if self.local_only:
            return self.local(tag)
        template = self._network.get("domain-template", "{{.Name}}.{{.Namespace}}.{{.Domain}}")
        return _filled(
            template,
            Name=self.hostname(tag),
            Namespace=self._route["metadata"]["namespace"],
            Domain=self._domain(),
        )

    def _domain(self) -> str:
        fallback = [name for name, selector in self._domains.items() if not selector.strip()]
        return (fallback or [_LOCAL_DOMAIN])[0]


def ingress_for(route: Object, plan: Plan, config: Config) -> Object:
    """Return the Ingress that sends a Route's hosts to its targets."""
    metadata, domains = route["metadata"], Domains(config, route)
    rules, tag_hosts = [], {}
    for tag in sorted(plan.by_tag):
        path = _path(metadata["namespace"], plan.by_tag[tag])
        local = domains.local(tag)
        short = local.removesuffix(f".{_LOCAL_DOMAIN}")
        rules.append(_rule([short, f"{short}.svc", local], "ClusterLocal", path))
        if not domains.local_only:
            rules.append(_rule([domains.public(tag)], "ExternalIP", path))
        if tag != MAIN:
            tag_hosts[tag] = list(dict.fromkeys([local, domains.public(tag)]))
    ingress_class = config("config-network").get("ingress-class", _KOURIER)
    annotations = {
        INGRESS_CLASS: ingress_class,
        _ROLLOUT: _rollout(plan),
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


def placeholder_for(route: Object, tag: str, config: Config) -> Object:
    """Return the Service that holds a target's name until the load balancer is known."""
    domains = Domains(config, route)
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


def traffic_status(route: Object, plan: Plan, config: Config) -> list[Object]:
    """Return ``status.traffic``."""
    domains, entries = Domains(config, route), []
    for target in plan.targets:
        entry: Object = {"percent": target.percent, "revisionName": target.revision}
        if target.latest is not None:
            entry["latestRevision"] = target.latest
        if target.tag:
            entry |= {"tag": target.tag, "url": f"http://{domains.public(target.tag)}"}
        entries.append(entry)
    return entries


def _filled(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace("{{." + name + "}}", value)
    return template


def _rule(hosts: list[str], visibility: str, path: Object) -> Object:
    return {"hosts": hosts, "visibility": visibility, "http": {"paths": [path]}}


def _path(namespace: str, targets: list[Target]) -> Object:
    return {
        "splits": [
            {
                "serviceName": target.revision,
                "serviceNamespace": namespace,
                "servicePort": 80,
                "percent": target.percent,
                "appendHeaders": {
                    "Knative-Serving-Namespace": namespace,
                    "Knative-Serving-Revision": target.revision,
                },
            }
            for target in targets
            if target.percent
        ]
    }


def _rollout(plan: Plan) -> str:
    configurations = []
    for tag in sorted(plan.by_tag):
        for target in plan.by_tag[tag]:
            if target.latest and target.percent:
                share = {"revisionName": target.revision, "percent": target.percent}
                entry: Object = {"configurationName": target.configuration}
                entry |= {"tag": tag} if tag else {}
                entry |= {"percent": target.percent, "revisions": [share], "stepParams": {}}
                configurations.append(entry)
    rollout = {"configurations": configurations} if configurations else {}
    return json.dumps(rollout, separators=(",", ":"))
