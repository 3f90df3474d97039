"""The values and comments of the Knative Service's template, and what its fields need.

Each comment says what is true of this Service: it follows from the settings and their profile.
"""

from __future__ import annotations

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.manifests.command import PORT, command_line
from qwenkit.manifests.scaling import SETTING_OF, scaling_annotations
from qwenkit.manifests.template import Filling
from qwenkit.parameters.pod_texts import parse_env, parse_node_selector, parse_tolerations
from qwenkit.serving.profile import ServingProfile
from qwenkit.settings import API_KEY, Settings

_PROBE_S = 2  # of the startup probe: a pod is not Ready before the next one, so each second counts
_SHARED = "aliyun.com/gpu-mem"


def server(settings: Settings) -> dict[str, Filling]:
    """Return the values of the server's container and its pod."""
    profile = settings.profile
    http = profile.image.has(0, 6) and not settings.command
    deadline_s = parse_duration_s(settings.progress_deadline)
    shared = profile.value("/dev/shm") or None
    return {
        "service": settings.service,
        "namespace": settings.namespace,
        "volume": settings.volume,
        "mount_path": settings.mount_path,
        "sub_path": settings.prefix if settings.storage == "pvc" else None,
        "command_line": command_line(settings, profile),
        "image": profile.image.name,
        "env": _env(settings, profile) or None,
        "image_pull_secrets": [{"name": name} for name in [settings.image_pull_secret] if name]
        or None,
        "node_selector": parse_node_selector(settings.node_selector) or None,
        "tolerations": parse_tolerations(settings.tolerations) or None,
        "runtime_class": settings.runtime_class or None,
        "tcp_port": None if http else PORT,
        "http_port": PORT if http else None,
        "health": "/health" if http else None,
        "startup_period_s": _PROBE_S if http else None,
        "startup_failures": max(1, int(deadline_s) // _PROBE_S) if http else None,
        "cpu_limit": settings.cpu_limit,
        "memory_limit": settings.memory_limit,
        "cpu_request": settings.cpu_request,
        "memory_request": settings.memory_request,
        "gpu_resource": settings.gpu_resource,
        "gpu_amount": str(_gpu_amount(settings)) if settings.gpu_count else None,
        "shm_volume": "shared-memory" if shared else None,
        "shm_path": "/dev/shm" if shared else None,
        "shm_medium": "Memory" if shared else None,
        "shm_size": shared,
    }


def scaling(settings: Settings) -> dict[str, Filling]:
    """Return the values of the annotations and limits of the revision."""
    given = scaling_annotations(settings)
    texts: dict[str, Filling] = {name: given.get(key) for key, name in SETTING_OF.items()}
    return texts | {
        "container_concurrency": settings.container_concurrency or None,
        "request_timeout_s": settings.request_timeout_s,
    }


def comments(settings: Settings) -> dict[str, str]:
    """Return the comments that depend on the settings, by their names in the template."""
    profile, gpus = settings.profile, bool(settings.gpu_count)
    held = "GPU" if gpus else "pod"
    units = "slices" if "/mig-" in settings.gpu_resource else "GPUs"
    of_gpu = f"whole {units}, and the request must equal the limit"
    of_max = "the GPUs that you have; " * gpus + "the backlog of a cold start asks for more"
    late = parse_duration_s(settings.progress_deadline) > 600
    of_shell = (
        "process 1: passes SIGTERM on to vLLM ($!). Python as process 1 would ignore it while it "
        "loads the model, and stay until timeoutSeconds are over"
    )
    of_tcp = f"{profile.image.name.rpartition(':')[2]} listens once the model is loaded"
    no_answer = "else 300: a first byte after that is a 504"
    return {
        "of_target": "soft; the autoscaler aims at "
        f"{settings.target_utilization_percentage or 70:g} % of it",
        "of_min_scale": "as many pods run without traffic"
        if settings.min_scale
        else f"0: no {held} is held without traffic",
        "of_max_scale": of_max if settings.max_scale else "0 is no limit",
        "of_deadline": "default 600s is shorter than node + image + model" if late else "",
        "of_response": no_answer if settings.request_timeout_s > 300 else "",
        "of_gpu": "GiB of a shared GPU" if settings.gpu_resource == _SHARED else of_gpu,
        "of_shell": "" if settings.command else of_shell,
        "of_command": _of_command(settings, profile),
        "of_image": profile.chosen["image"][1].removeprefix("set"),
        "of_tcp": "" if settings.command else f"{of_tcp}; for later versions probe /health",
    }


def _gpu_amount(settings: Settings) -> int:
    """Return the units of the GPU's resource: GPUs or slices, GiB where GPUs are shared."""
    shared = settings.gpu_resource == _SHARED
    return round(settings.hardware.usable_gib) if shared else settings.gpu_count


def _of_command(settings: Settings, profile: ServingProfile) -> str:
    """Say why the command line has its flags, those that somebody set left out."""
    if settings.command:
        return "command is set: signals, flags and port are yours"
    line = command_line(settings, profile)
    said = []
    for name, _, why in profile.reasons:
        flag = name if "-" in name else f"--{name.replace('_', '-')}"
        if f" {flag}" in line and why != "set":
            said.append(f"{flag}: {why}")
    return "; ".join(said)


def _env(settings: Settings, profile: ServingProfile) -> list[dict[str, object]]:
    old = {"VLLM_USE_V1": profile.value("VLLM_USE_V1")}
    given = {name: value for name, value in old.items() if value} | parse_env(settings.env)
    found: list[dict[str, object]] = [{"name": n, "value": v} for n, v in given.items()]
    if settings.api_key_secret:
        key = {"name": settings.api_key_secret, "key": API_KEY}
        found.append({"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": key}})
    return found
