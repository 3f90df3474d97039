"""Pod Security Standards: what the level ``baseline`` of a namespace forbids in pods.

Here the level ``restricted`` forbids no more than that, and sysctls and labels of SELinux are free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qwenkit.sandbox.kube.objects import Object, at

ENFORCE = "pod-security.kubernetes.io/enforce"
_CAPABILITIES = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID "
    "SETPCAP SETUID SYS_CHROOT"
)
# The title of a check, the field of a container's security context, what it must not be.
_FIELDS = (
    ("privileged", "privileged", (True,), "=true"),
    ("seccompProfile", "seccompProfile.type", ("Unconfined",), ' to "Unconfined"'),
    ("procMount", "procMount", ("Unmasked",), ' to "Unmasked"'),
)


def violated(pod: Object, namespaces: Iterable[Object]) -> str:
    """Return what a pod breaks of its namespace's level, in the API server's words, or nothing."""
    space, spec = pod["metadata"]["namespace"], pod["spec"]
    home = next(one["metadata"] for one in namespaces if one["metadata"]["name"] == space)
    level = at(home, "labels", ENFORCE)
    if level not in ("baseline", "restricted") or not (found := list(_broken(spec))):
        return ""
    version = at(home, "labels", f"{ENFORCE}-version") or "latest"
    return f'violates PodSecurity "{level}:{version}": {", ".join(found)}'


def _broken(spec: Object) -> Iterator[str]:
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    if used := [f"{one}=true" for one in ("hostNetwork", "hostPID", "hostIPC") if spec.get(one)]:
        yield f"host namespaces ({', '.join(used)})"
    for title, field, values, words in _FIELDS:
        path = ("securityContext", *field.split("."))
        bad = ["pod"] if at(spec, *path) in values else []
        bad += _named("container", [one for one in containers if at(one, *path) in values])
        if bad:
            yield f"{title} ({' and '.join(bad)} must not set securityContext.{field}{words})"
    added = {one["name"]: _added(one) for one in containers}
    if names := sorted(set().union(*added.values())):
        bad = _named("container", [one for one in containers if added[one["name"]]])
        quoted = ", ".join(f'"{one}"' for one in names)
        rule = f"must not include {quoted} in securityContext.capabilities.add"
        yield f"non-default capabilities ({bad[0]} {rule})"
    if paths := _named("volume", [one for one in spec.get("volumes") or [] if "hostPath" in one]):
        yield f"hostPath volumes ({paths[0]})"
    if bad := _named("container", [one for one in containers if _ports(one)]):
        ports = ", ".join(sorted({port for one in containers for port in _ports(one)}))
        verb = "use" if bad[0].startswith("containers") else "uses"
        yield f"hostPort ({bad[0]} {verb} hostPort{'s' if ',' in ports else ''} {ports})"


def _added(container: Object) -> set[str]:
    return set(at(container, "securityContext", "capabilities", "add") or []) - set(
        _CAPABILITIES.split()
    )


def _ports(container: Object) -> list[str]:
    return [str(port["hostPort"]) for port in container.get("ports") or [] if port.get("hostPort")]


def _named(word: str, things: list[Object]) -> list[str]:
    """Return how things are called together: ``containers "a", "b"``; nothing for none."""
    names = ", ".join(f'"{one["name"]}"' for one in things)
    return [f"{word}{'s' if len(things) > 1 else ''} {names}"] if things else []
