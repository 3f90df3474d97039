"""Durations and ages, as kubectl prints them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from qwenkit.sandbox.kube.objects import parse_timestamp


def human_duration(seconds: float) -> str:
    """Format a duration as kubectl does: 95s, 5m10s, 3h20m, 2d4h, 40d."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = divmod(days, 365)
    return f"{years}y{rest}d" if rest and years < 8 else f"{years}y"


def since(text: Any, now: datetime) -> str:
    """Format the time from a timestamp to ``now``."""
    if not text:
        return "<unknown>"
    return human_duration((now - parse_timestamp(text)).total_seconds())
