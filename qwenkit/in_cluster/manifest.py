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
from qwenkit.manifests.render import filled, ours, with_keys
from qwenkit.parameters.layers import run_id
from qwenkit.settings import Settings
from qwenkit.weights.oss.url import oss_url

CONTAINER = "upload"


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
            "target": oss_url(settings.bucket, settings.prefix),
            "deadline_s": max(1, int(settings.seconds("upload"))),
            "upload_timeout_s": str(settings.seconds("upload")),
            "image": image,
            "oss_endpoint": settings.cluster_oss_endpoint,
            "oss_region": settings.oss_region,
            "modelscope_endpoint": settings.modelscope_endpoint,
            "hf_endpoint": settings.hf_endpoint,
            "run_id": run_id(),
        },
    )
    # Kubernetes expands $(NAME) in arguments; $$ is a dollar.
    job["spec"]["template"]["spec"]["containers"][0]["args"] = [
        word.replace("$", "$$") for word in arguments
    ]
    return job


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
    settings: Settings, credentials: Credentials, tokens: Mapping[str, SecretStr]
) -> dict[str, Any]:
    """Return the Secret with the bucket's keys and the hub's tokens by variable; never print it."""
    found = {
        "OSS_ACCESS_KEY_ID": credentials.access_key_id,
        "OSS_ACCESS_KEY_SECRET": credentials.access_key_secret,
        "OSS_SESSION_TOKEN": credentials.session_token,
        **tokens,
    }
    values = {name: secret.get_secret_value().strip() for name, secret in found.items()}
    return job_secret(settings, transfer_name(settings), values)


def transfer_name(settings: Settings) -> str:
    """Return the name of the upload's Job and Secret."""
    return job_name("upload", f"{settings.bucket}/{settings.prefix}")


def job_name(kind: str, target: str) -> str:
    """Return the name of a Job and its Secret: one per target, so two cannot run at once."""
    return f"qwenkit-{kind}-{hashlib.sha256(target.encode()).hexdigest()[:10]}"


def job_secret(settings: Settings, name: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a Job's Secret with the values that are not empty; never print it."""
    names = ours(settings) | {"secret": name, "namespace": settings.namespace}
    given = {key: value for key, value in values.items() if value}
    return with_keys(filled("secret.yaml", names), given)
