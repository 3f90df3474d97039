"""Which images can be pulled? Those of known registries; no image is really downloaded."""

from __future__ import annotations

import hashlib
import re

from qwenkit import __version__

# The image of `upload --in-cluster`. It exists only here: no registry has it.
TRANSFER_IMAGE = f"localhost/qwenkit:{__version__}"
# Hosts by their last labels; a reference without a host is Docker Hub's.
_KNOWN = (
    "aliyuncs.com",
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "k8s.gcr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "pkg.dev",
    "public.ecr.aws",
    "quay.io",
    "registry.k8s.io",
)
_REFERENCE = re.compile(
    r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)


def resolve_image(image: str) -> str | None:
    """Return why Knative cannot resolve ``image`` to a digest, or None if it can.

    The message follows ``Unable to fetch image "…": failed to resolve image to digest: ``.
    """
    host, path = _split(image)
    if not _REFERENCE.fullmatch(path):
        return f"could not parse reference: {image}"
    if _known(host):
        return None
    return (
        f'Get "https://{host}/v2/": dial tcp: lookup {host.partition(":")[0]} '
        "on 10.96.0.10:53: server misbehaving"
    )


def pull_error(image: str) -> str | None:
    """Return why a node cannot pull ``image``, as the container runtime says it, or None."""
    host, path = _split(image)
    if not _REFERENCE.fullmatch(path):
        return f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}"'
    if _known(host) or image == TRANSFER_IMAGE:
        return None
    name, tag = _tagged(image)
    return (
        f'failed to pull and unpack image "{name}{tag}": failed to resolve reference '
        f'"{name}{tag}": failed to do request: Head '
        f'"https://{host}/v2/{path.partition(":")[0]}/manifests/{tag[1:]}": dial tcp: lookup '
        f"{host.partition(':')[0]} on 10.96.0.10:53: server misbehaving"
    )


def image_id(image: str) -> str:
    """Return the id that the node reports: the reference's digest, or a hash of the reference."""
    _, at, digest = image.partition("@")
    return digest if at else f"sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def _split(image: str) -> tuple[str, str]:
    """Return the registry's host and the rest."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "docker.io", image


def _known(host: str) -> bool:
    return any(host == known or host.endswith(f".{known}") for known in _KNOWN)


def _tagged(image: str) -> tuple[str, str]:
    name, at, digest = image.partition("@")
    if at:
        return name, f"@{digest}"
    head, colon, tag = image.rpartition(":")
    return (head, f":{tag}") if colon and "/" not in tag else (image, ":latest")
