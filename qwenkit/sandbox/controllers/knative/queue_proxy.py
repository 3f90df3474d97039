"""Which container does Knative put beside the user's in every pod: the queue-proxy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qwenkit.sandbox.controllers import names
from qwenkit.sandbox.controllers.loop import KNATIVE_NAMESPACE
from qwenkit.sandbox.controllers.object_fields import annotations_of, controller_of, labels_of
from qwenkit.sandbox.kube.objects import Object, copied

QUEUE_PROXY = "queue-proxy"
DEFAULT_PORT = 8080
HTTP_PORT, HTTP2_PORT, HTTPS_PORT = 8012, 8013, 8112
METRICS_PORTS = {"http-autometric": 9090, "http-usermetric": 9091}

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


def protocol(revision: Object) -> str:
    """Return ``h2c`` or ``http1``, as the serving port's name says."""
    ports = serving_container(revision).get("ports") or [{}]
    return "h2c" if ports[0].get("name") == "h2c" else "http1"


def serving_container(revision: Object) -> Object:
    """Return the container that requests go to: the one with a port, or the only one."""
    containers: list[Object] = revision["spec"]["containers"]
    return next((item for item in containers if item.get("ports")), containers[0])


def user_port(revision: Object) -> int:
    """Return the port that the user's server listens on."""
    ports = serving_container(revision).get("ports") or [{}]
    port: int = ports[0].get("containerPort") or DEFAULT_PORT
    return port


def variable(name: str, value: str = "", *, field: str = "") -> Object:
    """Return an environment variable with a value or a field of the pod."""
    if field:
        return {
            "name": name,
            "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}},
        }
    return {"name": name, "value": value} if value else {"name": name}


def queue_proxy(revision: Object, config: Mapping[str, str]) -> Object:
    """Return the container, configured by ``config-deployment`` and the revision."""
    http = HTTP2_PORT if protocol(revision) == "h2c" else HTTP_PORT
    ports = {**METRICS_PORTS, "queue-port": http, "https-port": HTTPS_PORT}
    container: Object = {
        "name": QUEUE_PROXY,
        "image": config.get("queue-sidecar-image", ""),
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()
        ],
        "env": _queue_env(revision, http),
        "resources": _queue_resources(annotations_of(revision), config),
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
    headers = [{"name": "K-Network-Probe", "value": "queue"}]
    request = {"path": "/", "port": port, "scheme": "HTTP", "httpHeaders": headers}
    defaults = {
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    given = {key: value for key, value in user.items() if value and key not in _HANDLERS}
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
    """Return the user's readiness probe as the queue-proxy gets it."""
    probe: Any = copied(serving_container(revision).get("readinessProbe"))
    if not probe:
        return ""
    port = user_port(revision)
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
    duplex = annotations_of(revision).get(names.FULL_DUPLEX, "").lower() == "enabled"
    return [
        variable("SERVING_NAMESPACE", metadata["namespace"]),
        variable("SERVING_SERVICE", labels_of(revision).get(names.SERVICE, "")),
        variable("SERVING_CONFIGURATION", owner.get("name", "")),
        variable("SERVING_REVISION", metadata["name"]),
        variable("QUEUE_SERVING_PORT", str(http)),
        variable("QUEUE_SERVING_TLS_PORT", str(HTTPS_PORT)),
        variable("CONTAINER_CONCURRENCY", str(spec.get("containerConcurrency") or 0)),
        variable("REVISION_TIMEOUT_SECONDS", str(spec.get("timeoutSeconds") or 0)),
        variable(
            "REVISION_RESPONSE_START_TIMEOUT_SECONDS",
            str(spec.get("responseStartTimeoutSeconds") or 0),
        ),
        variable("REVISION_IDLE_TIMEOUT_SECONDS", str(spec.get("idleTimeoutSeconds") or 0)),
        variable("SERVING_POD", field="metadata.name"),
        variable("SERVING_POD_IP", field="status.podIP"),
        variable("SERVING_LOGGING_CONFIG"),
        variable("SERVING_LOGGING_LEVEL"),
        variable("USER_PORT", str(user_port(revision))),
        variable("SYSTEM_NAMESPACE", KNATIVE_NAMESPACE),
        variable("SERVING_READINESS_PROBE", _encoded_probe(revision)),
        variable("HOST_IP", field="status.hostIP"),
        variable("ENABLE_HTTP2_AUTO_DETECTION", "false"),
        variable("ENABLE_HTTP_FULL_DUPLEX", str(duplex).lower()),
        variable("ROOT_CA"),
        variable("QUEUE_PROXY_TLS_MIN_VERSION"),
        variable("QUEUE_PROXY_TLS_MAX_VERSION"),
        variable("QUEUE_PROXY_TLS_CIPHER_SUITES"),
        variable("QUEUE_PROXY_TLS_CURVE_PREFERENCES"),
        variable("ENABLE_MULTI_CONTAINER_PROBES", "false"),
        variable("OBSERVABILITY_CONFIG", json.dumps(_OBSERVABILITY, separators=(",", ":"))),
    ]


def _queue_resources(annotations: Mapping[str, str], config: Mapping[str, str]) -> Object:
    resources: Object = {"requests": {}, "limits": {}}
    for resource in ("cpu", "memory", "ephemeral-storage"):
        default = "25m" if resource == "cpu" else ""
        for side, fallback in (("request", default), ("limit", "")):
            configured = config.get(f"queue-sidecar-{resource}-{side}", fallback)
            value = annotations.get(f"{names.SIDECAR}{resource}-resource-{side}", configured)
            if value:
                resources[f"{side}s"][resource] = value
    return {side: values for side, values in resources.items() if values}
