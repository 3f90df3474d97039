"""What the texts ``env``, ``node_selector`` and ``tolerations`` list.

Each function returns what a pod's template holds, or raises the rule.
"""

from __future__ import annotations

import re

_VARIABLE = r"[A-Za-z_][A-Za-z0-9_.-]*"
_KEY = re.compile(r"([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def parse_env(text: str) -> dict[str, str]:
    """Read ``NAME=value,NAME=value``; a comma that no ``NAME=`` follows belongs to the value."""
    found: dict[str, str] = {}
    for part in re.split(rf",(?={_VARIABLE}=)", text) if text else []:
        name, equals, value = part.partition("=")
        if not equals or not re.fullmatch(_VARIABLE, name) or name in found:
            raise ValueError("must be NAME=value,NAME=value, each name once")
        found[name] = value
    return found


def parse_node_selector(text: str) -> dict[str, str]:
    """Read ``key=value,key=value`` as labels of nodes."""
    found: dict[str, str] = {}
    for part in text.split(",") if text else []:
        key, equals, value = part.strip().partition("=")
        if not equals or not _KEY.fullmatch(key) or not _LABEL.fullmatch(value) or key in found:
            raise ValueError(
                "must be labels of nodes, key=value,key=value, each key once, such as "
                "aliyun.accelerator/nvidia_name=NVIDIA-A10"
            )
        found[key] = value
    return found


def parse_tolerations(text: str) -> list[dict[str, str]]:
    """Read ``key=value:Effect`` or ``key:Effect`` by commas, as Kubernetes' tolerations."""
    found: list[dict[str, str]] = []
    for part in text.split(",") if text else []:
        taint, _, effect = part.strip().rpartition(":")
        key, equals, value = taint.partition("=")
        if not _KEY.fullmatch(key) or not _LABEL.fullmatch(value) or effect not in _EFFECTS:
            raise ValueError(
                "must be taints, key=value:Effect or key:Effect, by commas; "
                f"an effect is {', '.join(_EFFECTS[:-1])} or {_EFFECTS[-1]}"
            )
        rule = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
        found.append({"key": key, **rule, "effect": effect})
    return found
