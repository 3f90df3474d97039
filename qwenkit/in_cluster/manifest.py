"""The objects that are sent: the Job that uploads, and the Secret with its keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import SecretStr
from ruamel.yaml.comments import CommentedMap

from qwenkit import __version__
from qwenkit.credentials import Credentials
from qwenkit.errors import SettingsError
from qwenkit.manifests.render import with_keys
from qwenkit.manifests.storage import filled, ours
from qwenkit.parameters.layers import run_id
from qwenkit.parameters.pod_texts import parse_node_selector, parse_tolerations
from qwenkit.settings import Settings

CONTAINER = "upload"
_VOLUME = "/weights"
_USER = 65532  # of the Dockerfile


def transfer_job(settings: Settings, arguments: Sequence[str]) -> CommentedMap:
    """Render the Job that runs ``qwenkit upload`` with these arguments.

    Raises:
        SettingsError: no image is set.
    """
    image = require_image(settings)
    job = filled(
        "transfer-job.yaml",
        ours(settings)
        | {
            "name": transfer_name(settings),
            "namespace": settings.namespace,
            "target": settings.weights_url,
            "deadline_s": max(1, int(settings.seconds("upload"))),
            "upload_timeout_s": str(settings.seconds("upload")),
            "image": image,
            "oss_endpoint": settings.cluster_oss_endpoint,
            "oss_region": settings.oss_region,
            "oss_signature": settings.oss_signature,
            "oss_cname": str(settings.oss_cname).lower(),
            "modelscope_endpoint": settings.modelscope_endpoint,
            "hf_endpoint": settings.hf_endpoint,
            "run_id": run_id(),
            "fs_group": None if settings.storage == "oss" else _USER,
            "fs_group_change": None if settings.storage == "oss" else "OnRootMismatch",
        },
    )
    if settings.storage != "oss":
        # A NAS volume is that folder, a claim holds it.
        at = volume_folder(settings) if settings.storage == "nas" else _VOLUME
        _mount(job, settings.volume, at)
        # A class that waits for its first consumer binds the volume to the Job's node or zone.
        pod = job["spec"]["template"]["spec"]
        pod["nodeSelector"] = parse_node_selector(settings.node_selector)
        pod["tolerations"] = parse_tolerations(settings.tolerations)
    # Kubernetes expands $(NAME) in arguments; $$ is a dollar.
    job["spec"]["template"]["spec"]["containers"][0]["args"] = [
        word.replace("$", "$$") for word in arguments
    ]
    return job


def verify_job(settings: Settings) -> CommentedMap:
    """Render the Job that runs ``qwenkit verify`` on the folder in the volume.

    Raises:
        SettingsError: no image is set.
    """
    job = transfer_job(settings, [volume_folder(settings), "--json", "--exit-zero"])
    job["metadata"]["name"] = job_name("verify", settings.weights_url)
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["qwenkit", "verify"]
    container["volumeMounts"][-1]["readOnly"] = True
    return job


def volume_folder(settings: Settings) -> str:
    """Return where a Job's pod has the folder of the weights."""
    return f"{_VOLUME}/{settings.prefix}"


def in_volume(path: str) -> str:
    """Return a path of a Job's pod as it is in the volume; a key of a bucket stays as it is."""
    return path.removeprefix(f"{_VOLUME}/")


def _mount(job: CommentedMap, claim: str, at: str) -> None:
    """Give the Job a volume in place of a bucket and its keys."""
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["env"] = [one for one in container["env"] if not one["name"].startswith("OSS_")]
    container["volumeMounts"].append({"name": "weights", "mountPath": at})
    pod["volumes"].append({"name": "weights", "persistentVolumeClaim": {"claimName": claim}})
    for one in container["env"]:  # their Secret has this Job's name
        if "valueFrom" in one:
            one["valueFrom"]["secretKeyRef"]["optional"] = True


def require_image(settings: Settings) -> str:
    """Return the image of the Job's pods.

    Raises:
        SettingsError: none is set.
    """
    if settings.transfer_image:
        return settings.transfer_image
    raise SettingsError(
        "transfer_image",
        "",
        "is not set, and the cluster needs an image that has qwenkit in it",
        f"docker build -t REGISTRY/qwenkit:{__version__} . && docker push "
        f"REGISTRY/qwenkit:{__version__}, then --set transfer_image=REGISTRY/qwenkit:"
        f'{__version__}; for the sandbox: eval "$(qwenkit sandbox env)"',
    )


def transfer_secret(
    settings: Settings, credentials: Credentials | None, tokens: Mapping[str, SecretStr]
) -> dict[str, Any]:
    """Return the Secret with the bucket's keys and the hub's tokens by variable; never print it."""
    found = dict(tokens)
    if credentials:
        found["OSS_ACCESS_KEY_ID"] = credentials.access_key_id
        found["OSS_ACCESS_KEY_SECRET"] = credentials.access_key_secret
        found["OSS_SESSION_TOKEN"] = credentials.session_token
    values = {name: secret.get_secret_value().strip() for name, secret in found.items()}
    return job_secret(settings, transfer_name(settings), values)


def transfer_name(settings: Settings) -> str:
    """Return the name of the upload's Job and Secret."""
    return job_name("upload", settings.weights_url)


def job_name(kind: str, target: str) -> str:
    """Return the name of a Job and its Secret: one per target, so two cannot run at once."""
    return f"qwenkit-{kind}-{hashlib.sha256(target.encode()).hexdigest()[:10]}"


def job_secret(settings: Settings, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a Job's Secret with the values that are not empty; never print it."""
    names = ours(settings) | {"secret": name, "namespace": settings.namespace}
    given = {key: value for key, value in values.items() if value}
    return with_keys(filled("secret.yaml", names), given)
