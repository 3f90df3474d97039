"""Write the kubeconfig for kubectl and client libraries."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from qwenkit.private_files import write_private


def write_kubeconfig(
    path: Path, *, server: str, ca_pem: str, token: str, name: str = "sandbox"
) -> None:
    """Write a kubeconfig (mode 0600) with one context, certificate and token embedded.

    It is written as JSON, which is valid YAML.
    """
    authority = base64.b64encode(ca_pem.encode()).decode()
    cluster = {"server": server, "certificate-authority-data": authority}
    context = {"cluster": name, "user": name, "namespace": "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": context}],
    }
    write_private(path, json.dumps(config, indent=2) + "\n")
