"""Knative's rules for the pod part of a revision template."""

from __future__ import annotations

from collections.abc import Sequence

from qwenkit.admission.config_maps import ClusterConfigMaps
from qwenkit.admission.faults import HERE, Fault, Faults, Object, disallowed, invalid, missing, via
from qwenkit.admission.pod.container import PodContext, container_faults
from qwenkit.admission.pod.probes import HANDLERS, probe_faults, readiness_faults
from qwenkit.admission.pod.security import pod_security_faults
from qwenkit.admission.pod.volumes import needed_flags as volume_flags
from qwenkit.admission.pod.volumes import volume_faults
from qwenkit.admission.schema import names

_BEHIND_A_FLAG = {
    "affinity": "affinity",
    "dnsConfig": "dnsconfig",
    "dnsPolicy": "dnspolicy",
    "hostAliases": "hostaliases",
    "hostIPC": "hostipc",
    "hostNetwork": "hostnetwork",
    "hostPID": "hostpid",
    "initContainers": "init-containers",
    "nodeSelector": "nodeselector",
    "priorityClassName": "priorityclassname",
    "runtimeClassName": "runtimeclassname",
    "schedulerName": "schedulername",
    "securityContext": "securitycontext",
    "shareProcessNamespace": "shareprocessnamespace",
    "tolerations": "tolerations",
    "topologySpreadConstraints": "topologyspreadconstraints",
}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def needed_flags(spec: Object) -> dict[str, str]:
    """Return the flags of ConfigMap ``config-features`` that a spec needs, to what needs each.

    Some are on by default, such as emptyDir's; ``ClusterConfigMaps`` tells.

    >>> needed_flags({"tolerations": [{"operator": "Exists"}]})
    {'kubernetes.podspec-tolerations': 'tolerations'}
    """
    found = {f"kubernetes.podspec-{f}": name for name, f in _BEHIND_A_FLAG.items() if name in spec}
    for volume in spec.get("volumes", []):
        found |= volume_flags(volume)
    return found


def pod_faults(spec: Object, cluster: ClusterConfigMaps) -> Faults:
    """Check the pod part of a revision's spec; paths start at that spec."""
    containers: Sequence[Object] = spec.get("containers", [])
    init_containers: Sequence[Object] = spec.get("initContainers", [])
    yield from _forbidden(spec, cluster)
    if "securityContext" in spec:
        yield from via(pod_security_faults(spec["securityContext"], cluster), "securityContext")
    mounted = {
        mount.get("name", "")
        for container in (*init_containers, *containers)
        for mount in container.get("volumeMounts", [])
    }
    volumes = spec.get("volumes", [])
    yield from via(volume_faults(volumes, mounted, cluster), "volumes")
    pod = PodContext(cluster, {volume.get("name", ""): volume for volume in volumes})
    if init_containers:
        yield from _init_containers(init_containers, containers, pod)
    yield from via(_ports(containers), "containers[*]")
    yield from _containers(containers, pod)
    account = spec.get("serviceAccountName", "")
    for complaint in names.dns_1123_subdomain(account) if account else []:
        yield invalid(account, "serviceAccountName", complaint)


def _forbidden(spec: Object, cluster: ClusterConfigMaps) -> Faults:
    found = [
        name
        for name, flag in _BEHIND_A_FLAG.items()
        if name in spec and not cluster.permits(f"kubernetes.podspec-{flag}")
    ]
    if cluster.secures_pods and "securityContext" in found:
        found.remove("securityContext")
    if spec.get("automountServiceAccountToken") is True:
        found.append("automountServiceAccountToken")
    if found:
        yield disallowed(*sorted(found))


def _init_containers(
    init_containers: Sequence[Object], others: Sequence[Object], pod: PodContext
) -> list[Fault]:
    if not pod.cluster.enabled("kubernetes.podspec-init-containers"):
        message = "pod spec support for init-containers is off, but found"
        return [Fault(f"{message} {len(init_containers)} init containers")]
    taken = {container.get("name", "") for container in others}
    faults: list[Fault] = []
    for index, container in enumerate(init_containers):
        own = [
            Fault("field not allowed in an init container", (name,))
            for name in (*_PROBES, "lifecycle")
            if name in container
        ]
        own += container_faults(container, pod, role="init")
        if container.get("name", "") in taken:
            faults = _with_duplicate(faults, container, index)
        faults += via(own, "containers", f"[{index}]")  # Knative names the wrong list here
    return faults


def _ports(containers: Sequence[Object]) -> Faults:
    count = sum(len(container.get("ports", [])) for container in containers)
    if count == 0 and len(containers) > 1:
        yield missing("ports")
    if count > 1:
        details = "Only a single port is allowed across all containers"
        yield Fault("more than one container port is set", ("ports",), details)


def _port_name(containers: Sequence[Object]) -> str:
    ports = [container["ports"][0] for container in containers if container.get("ports")]
    return str(ports[-1].get("name") or "http") if ports else "http"


def _containers(containers: Sequence[Object], pod: PodContext) -> list[Fault]:
    if not containers:
        return [missing("containers")]
    if len(containers) > 1 and not pod.cluster.enabled("multi-container"):
        return [Fault(f"multi-container is off, but found {len(containers)} containers")]
    port_name = _port_name(containers)
    faults: list[Fault] = []
    seen: set[str] = set()
    for index, container in enumerate(containers):
        if len(containers) == 1 or container.get("ports"):
            own = [*_probes(container, port_name), *container_faults(container, pod, role="user")]
        else:
            own = [
                *_sidecar_probes(container, pod),
                *container_faults(container, pod, role="sidecar"),
            ]
        if container.get("name", "") in seen:
            faults = _with_duplicate(faults, container, index)
        seen.add(container.get("name", ""))
        faults += via(own, "containers", f"[{index}]")
    return faults


def _probes(container: Object, port_name: str | None) -> Faults:
    for name in _PROBES:
        if name in container:
            check = readiness_faults if name == "readinessProbe" else probe_faults
            yield from via(check(container[name], port_name), name)


def _sidecar_probes(container: Object, pod: PodContext) -> Faults:
    if pod.cluster.enabled("multi-container-probing"):
        yield from _probes(container, None)
        return
    for name in _PROBES:
        if container.get(name):
            # Knative does not name the handler, only the probe.
            wrong = {HERE if field in HANDLERS else field for field in container[name]}
            yield from via([disallowed(*sorted(wrong))], name)


def _with_duplicate(faults: list[Fault], container: Object, index: int) -> list[Fault]:
    message = f'duplicate container name "{container.get("name", "")}"'
    # Knative puts the index before all faults found so far, once more.
    return via([*faults, Fault(message, ("name",))], "containers", f"[{index}]")
