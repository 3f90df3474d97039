"""Why the autoscaler wants this many pods, in words."""

from __future__ import annotations

from qwenkit.autoscaling.annotations import RPS
from qwenkit.autoscaling.kpa import Decision


def explain(decision: Decision) -> str:
    """Describe which window asked for how many pods, and what raised or held the number."""
    parts = [_window(decision)]
    if decision.held_by_panic:
        parts.append(f"panic holds the peak of {decision.desired}")
    parts += _limits(decision)
    if decision.held_by_delay:
        delay = decision.spec.scale_down_delay_s
        parts.append(f"held at {decision.desired} by scale-down-delay {delay:g} s")
    return "; ".join(parts)


def explain_bounds(desired: int, applied: int, *, minimum: int, maximum: int) -> str:
    """Describe how the scale bounds changed a desired number of pods; empty if they did not."""
    if desired < 0 or applied < 0 or applied == desired:
        return ""
    if maximum and applied == maximum and desired > applied:
        return f"held at {applied} by max-scale"
    if applied == minimum and desired < applied:
        return f"raised to {applied} by min-scale"
    return f"{applied} applied"


def _window(decision: Decision) -> str:
    spec = decision.spec
    unit = "rps" if spec.metric == RPS else "concurrency"
    share = f"{spec.target:g} per pod"
    if decision.over_threshold:
        pods = max(1, decision.ready)
        return (
            f"panic: {spec.panic_window_s:g} s mean {unit} {decision.panic:.3g} asks for "
            f"{decision.for_panic} pods at {share}, at least "
            f"{spec.panic_threshold:g} × {pods} ready"
        )
    window_s, mean, asked = spec.stable_window_s, decision.stable, decision.for_stable
    if decision.panicking and decision.for_panic > asked:
        window_s, mean, asked = spec.panic_window_s, decision.panic, decision.for_panic
    text = f"{window_s:g} s mean {unit} {mean:.3g} asks for {asked} at {share}"
    return f"still in panic: {text}" if decision.panicking else text


def _limits(decision: Decision) -> list[str]:
    asked = decision.for_stable
    if decision.panicking:
        asked = max(asked, decision.for_panic)
    parts = []
    if asked > decision.ceiling:
        parts.append(f"at most {decision.ceiling} by max-scale-up-rate")
    elif asked < decision.floor and not decision.held_by_panic:
        parts.append(f"at least {decision.floor} by max-scale-down-rate")
    activation = decision.spec.activation_scale
    if activation > 1 and 0 < asked < activation:
        parts.append(f"at least {activation} by activation-scale")
    return parts
