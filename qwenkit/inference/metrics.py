"""vLLM's ``/metrics``: a Prometheus exposition as plain numbers."""

from __future__ import annotations

from qwenkit.errors import Rejected
from qwenkit.inference import failures
from qwenkit.inference.raw import get


def scrape(gateway: str, host: str, *, ca: str = "", timeout_s: float = 10) -> dict[str, float]:
    """Fetch the metrics of the pod that the gateway picks; see ``parse``.

    Raises:
        NotFound: no such host.
        Unreachable: nothing listens.
        Rejected: the answer is not an exposition.
    """
    answer = get(gateway, "/metrics", host=host, ca=ca, timeout_s=timeout_s)
    if answer.status != 200:
        raise failures.from_status(answer.status, answer.body, url=gateway, host=host, model="")
    return parse(answer.body)


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
