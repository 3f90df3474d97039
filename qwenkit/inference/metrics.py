"""vLLM's ``/metrics``: a Prometheus exposition as plain numbers."""

from __future__ import annotations

from qwenkit.errors import Rejected


def parse(text: str) -> dict[str, float]:
    """Return an exposition's samples by name, with their labels in braces if they have any.

    Raises:
        Rejected: it is not in Prometheus' text format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    except ValueError as error:
        raise Rejected(
            "the metrics cannot be read",
            f"they are not in the text format of Prometheus: {error}",
            "does the address belong to vLLM? Its metrics are at /metrics",
        ) from error
    return {_name(sample.name, sample.labels): float(sample.value) for sample in samples}


def _name(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if labels else name
