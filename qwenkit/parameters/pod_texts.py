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
    parts = re.split(rf",(?={_VARIABLE}=)", text) if text else []
    return _pairs(parts, re.compile(_VARIABLE), re.compile("(?s:.*)"), "NAME=value,NAME=value")


def parse_node_selector(text: str) -> dict[str, str]:
    """Read ``key=value,key=value`` as labels of nodes."""
    parts = [part.strip() for part in text.split(",")] if text else []
    example = "key=value,key=value, such as aliyun.accelerator/nvidia_name=NVIDIA-A10"
    return _pairs(parts, _KEY, _LABEL, example)


def _pairs(
    parts: list[str], key: re.Pattern[str], value: re.Pattern[str], form: str
) -> dict[str, str]:
    pairs = [part.partition("=") for part in parts]
    found = {name: text for name, equals, text in pairs if equals and key.fullmatch(name)}
    if len(found) < len(parts) or not all(map(value.fullmatch, found.values())):
        raise ValueError(f"must be {form}, each name once")
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
