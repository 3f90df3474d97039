"""The Deployment and the PodAutoscaler that a revision wants.

Written with the API server's defaults filled in, so that comparing finds only real differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.sandbox.controllers.knative import names
from qwenkit.sandbox.controllers.knative.queue_proxy import (
    protocol,
    queue_proxy,
    serving_container,
    user_port,
    variable,
)
from qwenkit.sandbox.controllers.loop import controller_of, owner_reference
from qwenkit.sandbox.kube.objects import Object, copied

PROGRESS_DEADLINE = (
    "serving.knative.dev/progress-deadline",
    "serving.knative.dev/progressDeadline",
)
HASH = f"{names.SERVING}/deployment-hash"
_INITIAL_SCALE = ("autoscaling.knative.dev/initial-scale", "autoscaling.knative.dev/initialScale")
_CLASS = "autoscaling.knative.dev/class"
_METRIC = "autoscaling.knative.dev/metric"
_BOOKKEEPING = (
    f"{names.SERVING}/lastPinned",
    f"{names.SERVING}/no-gc",
    names.ROUTING_STATE_MODIFIED,
    names.ROUTES,
)
_ADMIN_PORT = 8022

Config = Callable[[str], Mapping[str, str]]


def deployment_name(revision: str) -> str:
    """Return the name of a revision's Deployment."""
    return names.child_name(revision, "-deployment")


def deployment_for(revision: Object, config: Config) -> Object:
    """Return the Deployment that a revision wants.

    Args:
        revision: the revision.
        config: returns the data of a ConfigMap of knative-serving.
    """
    metadata, labels = revision["metadata"], _labels(revision)
    annotations = _annotations(revision, scaling=False)
    spec = _deployment_spec(revision, config, labels, annotations)
    digest = names.base36(names.fnv32a([spec, annotations, labels]))
    return {
        "metadata": {
            "name": deployment_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {**labels, HASH: digest},
            "annotations": annotations,
            "ownerReferences": [owner_reference(revision)],
        },
        "spec": spec,
    }


def _deployment_spec(
    revision: Object, config: Config, labels: dict[str, str], annotations: dict[str, str]
) -> Object:
    metadata, deployment = revision["metadata"], config("config-deployment")
    given = metadata.get("annotations", {})
    shown = {"kubectl.kubernetes.io/default-container": serving_container(revision)["name"]}
    return {
        "replicas": _initial_scale(given, config("config-autoscaler")),
        "selector": {"matchLabels": {names.REVISION_UID: metadata["uid"]}},
        "template": {
            "metadata": {"labels": labels, "annotations": {**annotations, **shown}},
            "spec": _pod_spec(revision, deployment),
        },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
        },
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": progress_deadline(given, deployment),
    }


def autoscaler_for(revision: Object, reachability: str) -> Object:
    """Return the PodAutoscaler that a revision wants."""
    metadata, spec = revision["metadata"], revision["spec"]
    wanted: Object = {
        "protocolType": protocol(revision),
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": deployment_name(metadata["name"]),
        },
    }
    if reachability:
        wanted["reachability"] = reachability
    if concurrency := spec.get("containerConcurrency"):
        wanted["containerConcurrency"] = concurrency
    annotations = {
        _CLASS: "kpa.autoscaling.knative.dev",
        _METRIC: "concurrency",
        **_annotations(revision, scaling=True),
    }
    return {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": _labels(revision),
            "annotations": annotations,
            "ownerReferences": [owner_reference(revision)],
        },
        "spec": wanted,
    }


def progress_deadline(annotations: Mapping[str, str], config: Mapping[str, str]) -> int:
    """Return the seconds that a revision has to become ready."""
    given = next((annotations[key] for key in PROGRESS_DEADLINE if key in annotations), None)
    return int(parse_duration_s(given or config.get("progress-deadline", "600s")))


def _initial_scale(annotations: Mapping[str, str], config: Mapping[str, str]) -> int:
    given = next((annotations[key] for key in _INITIAL_SCALE if key in annotations), None)
    return int(given or config.get("initial-scale", "1"))


def _labels(revision: Object) -> dict[str, str]:
    metadata = revision["metadata"]
    labels = names.without(metadata.get("labels"), (names.ROUTE, names.ROUTING_STATE))
    labels |= {names.REVISION: metadata["name"], names.REVISION_UID: metadata["uid"]}
    return {"app": metadata["name"], **labels}


def _annotations(revision: Object, *, scaling: bool) -> dict[str, str]:
    kept = names.without(revision["metadata"].get("annotations"), _BOOKKEEPING)
    prefix = f"{names.AUTOSCALING}/"
    return {key: value for key, value in kept.items() if scaling or not key.startswith(prefix)}


def _pod_spec(revision: Object, config: Mapping[str, str]) -> Object:
    spec: Object = copied(revision["spec"])
    for field in ("containerConcurrency", "responseStartTimeoutSeconds", "idleTimeoutSeconds"):
        spec.pop(field, None)
    timeout = spec.pop("timeoutSeconds", 300)
    serving = serving_container(revision)["name"]
    users = [_user_container(item, revision, serving) for item in spec["containers"]]
    affinity = {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 100,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {
                            "matchLabels": {names.REVISION: revision["metadata"]["name"]}
                        },
                    },
                }
            ]
        }
    }
    defaults: Object = {
        "affinity": affinity,
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
    }
    return {
        **defaults,
        **spec,
        "containers": [*users, queue_proxy(revision, config)],
        "terminationGracePeriodSeconds": timeout,
    }


def _user_container(container: Object, revision: Object, serving: str) -> Object:
    metadata, port = revision["metadata"], user_port(revision)
    env = list(container.get("env", []))
    if container["name"] == serving:
        container["ports"] = [{"name": "user-port", "containerPort": port, "protocol": "TCP"}]
        env.append(variable("PORT", str(port)))
    owner = controller_of(revision) or {}
    env.append(variable("K_REVISION", metadata["name"]))
    env.append(variable("K_CONFIGURATION", owner.get("name", "")))
    env.append(variable("K_SERVICE", metadata.get("labels", {}).get(names.SERVICE, "")))
    probe = container.get("readinessProbe") or {}
    if "exec" not in probe:  # the queue-proxy asks instead
        container.pop("readinessProbe", None)
    drain = {"path": "/wait-for-drain", "port": _ADMIN_PORT, "scheme": "HTTP"}
    container["env"] = env
    container["lifecycle"] = {"preStop": {"httpGet": drain}}
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "FallbackToLogsOnError")
    container.setdefault("imagePullPolicy", _pull_policy(container["image"]))
    container.setdefault("resources", {})
    return container


def _pull_policy(image: str) -> str:
    tag = image.rpartition("/")[2]
    floating = "@" not in tag and (":" not in tag or tag.endswith(":latest"))
    return "Always" if floating else "IfNotPresent"
