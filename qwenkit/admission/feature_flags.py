"""Which feature flags of Knative a refused Service needs, and how to enable them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from qwenkit.admission.config_maps import PVC_FLAG, PVC_WRITE_FLAG
from qwenkit.admission.pod.spec import needed_flags

_REFUSALS = {
    "Persistent volume claim support is disabled": PVC_FLAG,
    "Persistent volume write support is disabled": PVC_WRITE_FLAG,
}


def flags_missing_in(message: str) -> list[str]:
    """Return the flags whose absence the webhook's message reports."""
    refused = message.partition("must not set the field(s): ")[2]
    fields = dict.fromkeys(re.findall(r"spec\.template\.spec\.(\w+)(?:,|$)", refused))
    volumes = [flag for text, flag in _REFUSALS.items() if text in message]
    return [*volumes, *needed_flags(fields)]


def enable_command(*flags: str) -> str:
    """Return the kubectl command that enables flags, by default the one for PVCs."""
    return patch_command("features", dict.fromkeys(flags or [PVC_FLAG], "enabled"))


def patch_command(name: str, data: Mapping[str, str]) -> str:
    """Return the kubectl command that sets data of Knative's ConfigMap ``config-<name>``."""
    patch = json.dumps({"data": data}, separators=(",", ":"))
    return f"kubectl patch configmap config-{name} -n knative-serving --type merge -p '{patch}'"
