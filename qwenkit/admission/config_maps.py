"""The ConfigMaps that admission depends on: features, defaults and autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qwenkit.autoscaling.annotation_keys import KPA

_ON_BY_DEFAULT = ("multi-container", "kubernetes.podspec-volumes-emptydir")
_DEFAULTS = {
    "revision-timeout-seconds": 300,
    "max-revision-timeout-seconds": 600,
    "revision-idle-timeout-seconds": 0,
    "container-concurrency": 0,
    "container-concurrency-max-limit": 1000,
}


PVC_FLAG = "kubernetes.podspec-persistent-volume-claim"
PVC_WRITE_FLAG = "kubernetes.podspec-persistent-volume-write"
ALL_FEATURES = {"*": "enabled"}  # stands for a cluster that allows all; no ConfigMap has it


@dataclass(frozen=True)
class ClusterConfigMaps:
    """Entries of the three ConfigMaps; a missing one has Knative's default."""

    features: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    autoscaler: Mapping[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> str:
        """Return ``enabled``, ``allowed`` or ``disabled``; any other text counts as unset."""
        value = self.features.get(name, self.features.get("*", "")).lower()
        if value in ("enabled", "allowed", "disabled"):
            return value
        return "enabled" if name in _ON_BY_DEFAULT else "disabled"

    def enabled(self, name: str) -> bool:
        """Return whether a flag is ``enabled``; ``allowed`` is not enough."""
        return self.flag(name) == "enabled"

    def permits(self, name: str) -> bool:
        """Return whether a flag is not ``disabled``."""
        return self.flag(name) != "disabled"

    @property
    def secure_pod_defaults(self) -> str:
        """How pods are secured: ``enabled``, ``allowrootbounded`` or ``disabled``."""
        value = self.features.get("secure-pod-defaults", "").lower()
        return value if value in ("enabled", "allowrootbounded") else "disabled"

    @property
    def secures_pods(self) -> bool:
        """Whether security contexts get safe defaults."""
        return self.secure_pod_defaults != "disabled"

    def number(self, name: str) -> int:
        """Return a number of ``config-defaults``."""
        return int(self.defaults.get(name, _DEFAULTS[name]))

    @property
    def response_start_timeout(self) -> int:
        """The default of ``responseStartTimeoutSeconds``; it follows the request timeout."""
        own = self.defaults.get("revision-response-start-timeout-seconds")
        return int(own) if own is not None else self.number("revision-timeout-seconds")

    @property
    def enable_service_links(self) -> bool | None:
        """The default of ``enableServiceLinks``; ``None`` leaves it to Kubernetes."""
        value = self.defaults.get("enable-service-links", "false").lower()
        return {"true": True, "false": False}.get(value)

    @property
    def least_concurrency(self) -> int:
        """The least ``containerConcurrency``."""
        refuses_zero = self.defaults.get("allow-container-concurrency-zero", "").lower() == "false"
        return 1 if refuses_zero else 0

    @property
    def allows_zero_initial_scale(self) -> bool:
        """Whether a revision may start without pods."""
        return self.autoscaler.get("allow-zero-initial-scale", "").lower() == "true"

    @property
    def max_scale_limit(self) -> int:
        """The greatest ``max-scale``; 0 for none."""
        return int(self.autoscaler.get("max-scale-limit", 0))

    @property
    def autoscaler_class(self) -> str:
        """The autoscaler of a revision that names none."""
        return self.autoscaler.get("pod-autoscaler-class", KPA)
