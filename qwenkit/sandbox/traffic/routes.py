"""Which revision serves a host: a table of Knative's Ingress objects."""

from __future__ import annotations

import random
from dataclasses import dataclass

from qwenkit.sandbox.kube.objects import Object


@dataclass(frozen=True)
class Split:
    """A share of a host's requests."""

    namespace: str
    revision: str
    percent: int


class Routes:
    """Hosts of the external gateway and their splits."""

    def __init__(self) -> None:
        self._by_ingress: dict[tuple[str, str], dict[str, list[tuple[str, list[Split]]]]] = {}
        self._hosts: dict[str, list[tuple[str, list[Split]]]] = {}

    def update(self, ingress: Object) -> None:
        """Add or update an Ingress."""
        rules: dict[str, list[tuple[str, list[Split]]]] = {}
        for rule in ingress.get("spec", {}).get("rules", []):
            # Cluster-local hosts are served by another gateway, which nothing outside reaches.
            if rule.get("visibility", "ExternalIP") != "ExternalIP":
                continue
            paths = [_path(one) for one in rule["http"]["paths"] if not one.get("headers")]
            rules |= dict.fromkeys(rule["hosts"], paths)
        self._by_ingress[_key(ingress)] = rules
        self._rebuild()

    def remove(self, ingress: Object) -> None:
        """Remove an Ingress."""
        self._by_ingress.pop(_key(ingress), None)
        self._rebuild()

    def find(self, host: str, path: str) -> Split | None:
        """Choose a split for a request, by the percentages; None for an unknown host."""
        name = host.partition(":")[0].lower()
        for prefix, splits in self._hosts.get(name, []):
            if path.startswith(prefix) and splits:
                return random.choices(splits, [one.percent for one in splits])[0]
        return None

    def _rebuild(self) -> None:
        self._hosts = {
            host: paths for rules in self._by_ingress.values() for host, paths in rules.items()
        }


def _path(path: Object) -> tuple[str, list[Split]]:
    splits = []
    for one in path["splits"]:
        headers = one.get("appendHeaders") or {}
        revision = headers.get("Knative-Serving-Revision", one["serviceName"])
        namespace = headers.get("Knative-Serving-Namespace", one["serviceNamespace"])
        percent = one.get("percent", 100)
        if percent:
            splits.append(Split(namespace, revision, percent))
    return path.get("path", "") or "/", splits


def _key(ingress: Object) -> tuple[str, str]:
    return ingress["metadata"]["namespace"], ingress["metadata"]["name"]
