"""Which host names do a Route and its tags have, and are they public or cluster-local?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.object_fields import labels_of
from qwenkit.sandbox.kube.objects import Object, at
from qwenkit.sandbox.kube.storage.store import ObjectStore
from qwenkit.untrusted.parsing import parse_yaml

Config = Callable[[str], Mapping[str, str]]
_CLUSTER_DOMAIN = "svc.cluster.local"
_TAG_TEMPLATE = "{{.Tag}}-{{.Name}}"
_DOMAIN_TEMPLATE = "{{.Name}}.{{.Namespace}}.{{.Domain}}"


class Domains:
    """The hosts of a Route, named as the cluster's ConfigMaps say.

    Args:
        config: returns the data of a ConfigMap of knative-serving.
        route: whose hosts are named.
        store: where a label on a placeholder Service makes a single tag cluster-local.
    """

    def __init__(self, config: Config, route: Object, store: ObjectStore) -> None:
        self.network = config("config-network")
        self._name: str = route["metadata"]["name"]
        self._namespace: str = route["metadata"]["namespace"]
        self._domain = _domain(config("config-domain"), labels_of(route))
        services = store.list("Service", self._namespace, {names.ROUTE: self._name})
        self._hidden = {item["metadata"]["name"] for item in services if _is_local(item)}

    def hostname(self, tag: str) -> str:
        """Return the first part of a target's host name, which its placeholder Service has too."""
        if not tag:
            return self._name
        template = self.network.get("tag-template", _TAG_TEMPLATE)
        return _filled(template, Tag=tag, Name=self._name)

    def is_local(self, tag: str) -> bool:
        """Return whether a target is reachable from within the cluster only."""
        return self._domain == _CLUSTER_DOMAIN or self.hostname(tag) in self._hidden

    def local(self, tag: str) -> str:
        """Return a target's full name inside the cluster."""
        return f"{self.hostname(tag)}.{self._namespace}.{_CLUSTER_DOMAIN}"

    def local_names(self, tag: str) -> list[str]:
        """Return all names of a target inside the cluster, the shortest first."""
        short = f"{self.hostname(tag)}.{self._namespace}"
        return [short, f"{short}.svc", self.local(tag)]

    def public(self, tag: str) -> str:
        """Return a target's public name, or the cluster's if it is local."""
        if self.is_local(tag):
            return self.local(tag)
        template = self.network.get("domain-template", _DOMAIN_TEMPLATE)
        values = {"Name": self.hostname(tag), "Namespace": self._namespace, "Domain": self._domain}
        return _filled(template, **values)


def _domain(domains: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """Return the domain whose selector fits the labels best; of equal ones the first by name."""
    if labels.get(names.VISIBILITY) == names.CLUSTER_LOCAL:
        return _CLUSTER_DOMAIN
    selectors = dict(_selectors(domains))
    if all(selectors.values()):
        selectors[_CLUSTER_DOMAIN] = {}
    fitting = [name for name, wanted in selectors.items() if wanted.items() <= labels.items()]
    return min(fitting, key=lambda name: (-len(selectors[name]), name))


def _selectors(domains: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, text in domains.items():
        if name == "_example":
            continue
        try:
            read = parse_yaml(text) if text.strip() else {}
        except ValueError:
            continue  # Knative's webhook would refuse it
        selector = at(read, "selector")
        yield name, selector if isinstance(selector, dict) else {}


def _is_local(service: Object) -> bool:
    return bool(labels_of(service).get(names.VISIBILITY) == names.CLUSTER_LOCAL)


def _filled(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace("{{." + name + "}}", value)
    return template
