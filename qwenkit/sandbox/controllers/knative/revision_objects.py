"""Which Deployment and which PodAutoscaler does a revision want?

They have the API server's defaults filled in, so that a comparison finds only real differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qwenkit.autoscaling.annotation_keys import KPA, PREFIX, find_annotation
from qwenkit.autoscaling.annotations import CONCURRENCY, PROGRESS_DEADLINE_DEFAULT_S
from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.knative.queue_proxy import (
    protocol,
    queue_proxy,
    serving_container,
    user_port,
    variable,
)
from qwenkit.sandbox.controllers.object_fields import annotations_of, child_metadata, controller_of
from qwenkit.sandbox.kube.objects import Object, copied

_BOOKKEEPING = (names.LAST_PINNED, names.NO_GC, names.ROUTING_STATE_MODIFIED, names.ROUTES)
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
    labels, annotations = _labels(revision), _annotations(revision, scaling=False)
    spec = _deployment_spec(revision, config, labels, annotations)
    name = deployment_name(revision["metadata"]["name"])
    digest = f"{names.fnv32a([spec, annotations, labels]):x}"
    labels = {**labels, names.DEPLOYMENT_HASH: digest}
    return {"metadata": child_metadata(revision, name, labels, annotations), "spec": spec}


def _deployment_spec(
    revision: Object, config: Config, labels: dict[str, str], annotations: dict[str, str]
) -> Object:
    metadata, deployment = revision["metadata"], config("config-deployment")
    given = annotations_of(revision)
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
    defaults = {f"{PREFIX}class": KPA, f"{PREFIX}metric": CONCURRENCY}
    annotations = defaults | _annotations(revision, scaling=True)
    metadata = child_metadata(revision, metadata["name"], _labels(revision), annotations)
    return {"metadata": metadata, "spec": wanted}


def progress_deadline(annotations: Mapping[str, str], config: Mapping[str, str]) -> int:
    """Return the seconds that a revision has to become ready."""
    given = names.first(annotations, names.PROGRESS_DEADLINE) or config.get("progress-deadline")
    return int(parse_duration_s(given) if given else PROGRESS_DEADLINE_DEFAULT_S)


def _initial_scale(annotations: Mapping[str, str], config: Mapping[str, str]) -> int:
    found = find_annotation(annotations, "initial-scale")
    return int(found[1] if found else config.get("initial-scale", "1"))


def _labels(revision: Object) -> dict[str, str]:
    metadata = revision["metadata"]
    labels = names.without(metadata.get("labels"), (names.ROUTE, names.ROUTING_STATE))
    labels |= {names.REVISION: metadata["name"], names.REVISION_UID: metadata["uid"]}
    return {"app": metadata["name"], **labels}


def _annotations(revision: Object, *, scaling: bool) -> dict[str, str]:
    kept = names.without(revision["metadata"].get("annotations"), _BOOKKEEPING)
    return {key: value for key, value in kept.items() if scaling or not key.startswith(PREFIX)}


def _pod_spec(revision: Object, config: Mapping[str, str]) -> Object:
    spec: Object = copied(revision["spec"])
    for field in ("containerConcurrency", "responseStartTimeoutSeconds", "idleTimeoutSeconds"):
        spec.pop(field, None)
    timeout = spec.pop("timeoutSeconds", 300)
    serving = serving_container(revision)["name"]
    users = [_user_container(item, revision, serving) for item in spec["containers"]]
    selector = {"matchLabels": {names.REVISION: revision["metadata"]["name"]}}
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
    apart = [{"weight": 100, "podAffinityTerm": term}]
    defaults: Object = {
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": apart}},
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
