"""The Deployment and the PodAutoscaler of a revision, with the queue-proxy beside the user's container.

Written with the API server's defaults filled in, so that comparing finds only real differences.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.loop import controller_of, owner_reference
from qwenkit.sandbox.kube.objects import Object, copied

QUEUE_PROXY = "queue-proxy"
DEFAULT_PORT = 8080
PROGRESS_DEADLINE = ("serving.knative.dev/progress-deadline", "serving.knative.dev/progressDeadline")
_INITIAL_SCALE = ("autoscaling.knative.dev/initial-scale", "autoscaling.knative.dev/initialScale")
_CLASS = "autoscaling.knative.dev/class"
_METRIC = "autoscaling.knative.dev/metric"
_SIDECAR = "queue.sidecar.serving.knative.dev/"
_FULL_DUPLEX = "features.knative.dev/http-full-duplex"
_BOOKKEEPING = (
    f"{names.SERVING}/lastPinned",
    f"{names.SERVING}/no-gc",
    names.ROUTING_STATE_MODIFIED,
    names.ROUTES,
)
_HTTP_PORT, _HTTP2_PORT, _HTTPS_PORT, _ADMIN_PORT = 8012, 8013, 8112, 8022

Config = Callable[[str], Mapping[str, str]]

_REQUEST_LOG = (
    '{"httpRequest": {"requestMethod": "{{.Request.Method}}", '
    '"requestUrl": "{{js .Request.RequestURI}}", "requestSize": "{{.Request.ContentLength}}", '
    '"status": {{.Response.Code}}, "responseSize": "{{.Response.Size}}", '
    '"userAgent": "{{js .Request.UserAgent}}", "remoteIp": "{{js .Request.RemoteAddr}}", '
    '"serverIp": "{{.Revision.PodIP}}", "referer": "{{js .Request.Referer}}", '
    '"latency": "{{.Response.Latency}}s", "protocol": "{{.Request.Proto}}"}, '
    '"traceId": "{{.TraceID}}"}'
)
_OBSERVABILITY = {
    "tracing": {"protocol": "none"},
    "metrics": {"protocol": "none"},
    "runtime": {"profiling": "disabled", "exportInterval": 15_000_000_000},
    "requestMetrics": {"protocol": "none"},
    "requestLogTemplate": _REQUEST_LOG,
}


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
    serving = serving_container(revision)
    spec = {
        "replicas": _initial_scale(metadata.get("annotations", {}), config("config-autoscaler")),
        "selector": {"matchLabels": {names.REVISION_UID: metadata["uid"]}},
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {
                    **annotations,
                    "kubectl.kubernetes.io/default-container": serving["name"],
                },
            },
            "spec": _pod_spec(revision, config("config-deployment")),
        },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
        },
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": progress_deadline(
            metadata.get("annotations", {}), config("config-deployment")
        ),
    }
    digest = names.base36(names.fnv32a([spec, annotations, labels]))
    return {
        "metadata": {
            "name": deployment_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {**labels, f"{names.SERVING}/deployment-hash": digest},
            "annotations": annotations,
            "ownerReferences": [owner_reference(revision)],
        },
        "spec": spec,
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


def protocol(revision: Object) -> str:
    """Return ``h2c`` or ``http1``, as the serving port's name says."""
    ports = serving_container(revision).get("ports") or [{}]
    return "h2c" if ports[0].get("name") == "h2c" else "http1"


def serving_container(revision: Object) -> Object:
    """Return the container that requests go to: the one with a port, or the only one."""
    containers: list[Object] = revision["spec"]["containers"]
    return next((item for item in containers if item.get("ports")), containers[0])


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
        "containers": [*users, _queue_proxy(revision, config)],
        "terminationGracePeriodSeconds": timeout,
    }


def _user_container(container: Object, revision: Object, serving: str) -> Object:
    metadata, port = revision["metadata"], _user_port(revision)
    env = list(container.get("env", []))
    if container["name"] == serving:
        container["ports"] = [
            {"name": "user-port", "containerPort": port, "protocol": "TCP"}
        ]
        env.append(_variable("PORT", str(port)))
    owner = controller_of(revision) or {}
    env.append(_variable("K_REVISION", metadata["name"]))
    env.append(_variable("K_CONFIGURATION", owner.get("name", "")))
    env.append(_variable("K_SERVICE", metadata.get("labels", {}).get(names.SERVICE, "")))
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


def _user_port(revision: Object) -> int:
    ports = serving_container(revision).get("ports") or [{}]
    port: int = ports[0].get("containerPort") or DEFAULT_PORT
    return port


def _variable(name: str, value: str = "", *, field: str = "") -> Object:
    if field:
        return {
            "name": name,
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}},
        }
    return {"name": name, "value": value} if value else {"name": name}


def _queue_proxy(revision: Object, config: Mapping[str, str]) -> Object:
    annotations = revision["metadata"].get("annotations", {})
    http = _HTTP2_PORT if protocol(revision) == "h2c" else _HTTP_PORT
    ports = (
        ("http-autometric", 9090),
        ("http-usermetric", 9091),
        ("queue-port", http),
        ("https-port", _HTTPS_PORT),
    )
    container: Object = {
        "name": QUEUE_PROXY,
        "image": config.get("queue-sidecar-image", ""),
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports
        ],
        "env": _queue_env(revision, http),
        "resources": _queue_resources(annotations, config),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if probe := serving_container(revision).get("readinessProbe"):
        container["readinessProbe"] = _queue_probe(probe, http)
    return container


def _queue_probe(user: Object, port: int) -> Object:
    """Return the kubelet's probe: it asks the queue-proxy, which asks the container."""
    timing = {key: value for key, value in user.items() if key not in _HANDLERS}
    headers = [{"name": "K-Network-Probe", "value": "queue"}]
    request = {"path": "/", "port": port, "scheme": "HTTP", "httpHeaders": headers}
    defaults = {
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    given = {key: value for key, value in timing.items() if value}
    return {"httpGet": request, **defaults, **given}


_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")
_PROBE_ORDER = (
    *_HANDLERS,
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)


def _encoded_probe(revision: Object) -> str:
    """Return the user's readiness probe as the queue-proxy is told it."""
    probe: Any = copied(serving_container(revision).get("readinessProbe"))
    if not probe:
        return ""
    port = _user_port(revision)
    if request := probe.get("httpGet"):
        shown = {"path": request.get("path", "/"), "port": request.get("port") or port}
        shown |= {"host": "127.0.0.1", "scheme": request.get("scheme", "HTTP")}
        headers = request.get("httpHeaders")
        probe["httpGet"] = shown | ({"httpHeaders": headers} if headers else {})
    if socket := probe.get("tcpSocket"):
        probe["tcpSocket"] = {"port": socket.get("port") or port, "host": "127.0.0.1"}
    if remote := probe.get("grpc"):
        remote["port"] = remote.get("port") or port
    ordered = {key: probe[key] for key in _PROBE_ORDER if probe.get(key) is not None}
    return json.dumps(ordered, separators=(",", ":"))


def _queue_env(revision: Object, http: int) -> list[Object]:
    metadata, spec = revision["metadata"], revision["spec"]
    owner = controller_of(revision) or {}
    duplex = metadata.get("annotations", {}).get(_FULL_DUPLEX, "").lower() == "enabled"
    return [
        _variable("SERVING_NAMESPACE", metadata["namespace"]),
        _variable("SERVING_SERVICE", metadata.get("labels", {}).get(names.SERVICE, "")),
        _variable("SERVING_CONFIGURATION", owner.get("name", "")),
        _variable("SERVING_REVISION", metadata["name"]),
        _variable("QUEUE_SERVING_PORT", str(http)),
        _variable("QUEUE_SERVING_TLS_PORT", str(_HTTPS_PORT)),
        _variable("CONTAINER_CONCURRENCY", str(spec.get("containerConcurrency") or 0)),
        _variable("REVISION_TIMEOUT_SECONDS", str(spec.get("timeoutSeconds") or 0)),
        _variable(
            "REVISION_RESPONSE_START_TIMEOUT_SECONDS",
            str(spec.get("responseStartTimeoutSeconds") or 0),
        ),
        _variable("REVISION_IDLE_TIMEOUT_SECONDS", str(spec.get("idleTimeoutSeconds") or 0)),
        _variable("SERVING_POD", field="metadata.name"),
        _variable("SERVING_POD_IP", field="status.podIP"),
        _variable("SERVING_LOGGING_CONFIG"),
        _variable("SERVING_LOGGING_LEVEL"),
        _variable("USER_PORT", str(_user_port(revision))),
        _variable("SYSTEM_NAMESPACE", "knative-serving"),
        _variable("SERVING_READINESS_PROBE", _encoded_probe(revision)),
        _variable("HOST_IP", field="status.hostIP"),
        _variable("ENABLE_HTTP2_AUTO_DETECTION", "false"),
        _variable("ENABLE_HTTP_FULL_DUPLEX", str(duplex).lower()),
        _variable("ROOT_CA"),
        _variable("QUEUE_PROXY_TLS_MIN_VERSION"),
        _variable("QUEUE_PROXY_TLS_MAX_VERSION"),
        _variable("QUEUE_PROXY_TLS_CIPHER_SUITES"),
        _variable("QUEUE_PROXY_TLS_CURVE_PREFERENCES"),
        _variable("ENABLE_MULTI_CONTAINER_PROBES", "false"),
        _variable(
            "OBSERVABILITY_CONFIG", json.dumps(_OBSERVABILITY, separators=(",", ":"))
        ),
    ]


def _queue_resources(annotations: Mapping[str, str], config: Mapping[str, str]) -> Object:
    resources: Object = {"requests": {}, "limits": {}}
    for resource in ("cpu", "memory", "ephemeral-storage"):
        default = "25m" if resource == "cpu" else ""
        for side, fallback in (("request", default), ("limit", "")):
            configured = config.get(f"queue-sidecar-{resource}-{side}", fallback)
            value = annotations.get(f"{_SIDECAR}{resource}-resource-{side}", configured)
            if value:
                resources[f"{side}s"][resource] = value
    return {side: values for side, values in resources.items() if values}


