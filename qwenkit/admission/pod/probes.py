"""Knative's rules for probes."""

from __future__ import annotations

from qwenkit.admission.faults import (
    Fault,
    Faults,
    Object,
    below,
    invalid,
    missing_one_of,
    multiple_one_of,
    via,
)

HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")


def readiness_faults(probe: Object, port_name: str | None) -> Faults:
    """Check a readiness probe; ``periodSeconds: 0`` is Knative's own fast probe."""
    yield from probe_faults(probe, port_name)
    period = probe.get("periodSeconds", 0)
    for name, least in (("periodSeconds", 0), ("initialDelaySeconds", 0), ("successThreshold", 1)):
        if probe.get(name, 0) < least:
            yield below(probe.get(name, 0), least, name)
    for name in ("failureThreshold", "timeoutSeconds"):
        value = probe.get(name, 0)
        if period == 0 and value != 0:
            yield Fault(f"{name} is disallowed when periodSeconds is zero", (name,))
        if period != 0 and value < 1:
            yield below(value, 1, name)


def probe_faults(probe: Object, port_name: str | None) -> list[Fault]:
    """Check a probe's handler; without a serving port, ``port_name`` is ``None``."""
    faults: list[Fault] = []
    for kind in HANDLERS:
        if kind not in probe:
            continue
        faults = via(faults, kind)  # Knative moves the faults found so far under the next handler
        if kind in ("httpGet", "tcpSocket"):
            faults += _port(probe[kind].get("port", 0), f"{kind}.port", port_name)
    handlers = [kind for kind in HANDLERS if kind in probe]
    if not handlers:
        faults.append(missing_one_of(*HANDLERS))
    elif len(handlers) > 1:
        shown = ("gRPC" if kind == "grpc" else kind for kind in handlers)
        faults.append(multiple_one_of(*shown))
    return faults


def _port(port: int | str, path: str, port_name: str | None) -> Faults:
    if port_name is None and port in ("", 0):
        yield invalid(port, path, "Probe port must be specified")
    elif port_name is not None and isinstance(port, str) and port not in ("", port_name):
        yield invalid(port, path, "Probe port must match container port")
