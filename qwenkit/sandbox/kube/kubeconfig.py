"""Write the kubeconfig for kubectl and client libraries."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path


def write_kubeconfig(
    path: Path, *, server: str, ca_pem: str, token: str, context: str = "sandbox"
) -> None:
    """Write a kubeconfig (mode 0600) with one context; certificate and token are embedded.

    It is written as JSON, which is valid YAML.
    """
    authority = base64.b64encode(ca_pem.encode()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {
                "name": context,
                "cluster": {"server": server, "certificate-authority-data": authority},
            }
        ],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [
            {
                "name": context,
                "context": {"cluster": context, "user": context, "namespace": "default"},
            }
        ],
    }
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
