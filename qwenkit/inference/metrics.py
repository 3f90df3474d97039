"""Read a Prometheus exposition, such as vLLM's ``/metrics``, into plain numbers."""

from __future__ import annotations

from qwenkit.errors import QwenkitError, Rejected
from qwenkit.inference import failures
from qwenkit.inference.raw import raw_request


def scrape(
    gateway: str, host: str | None = None, *, path: str = "/metrics", timeout_s: float = 10
) -> dict[str, float]:
    """Fetch and read metrics; through the gateway they are those of whichever pod answers.

    Raises:
        NotFound: no such host or path.
        Unreachable: nobody listens.
        Rejected: the answer is no exposition.
    """
    answer = raw_request(gateway, path, host=host, timeout_s=timeout_s)
    if answer.status != 200:
        raise failures.from_status(
            answer.status, "", url=f"{gateway}{path}", host=host or "", model=""
        )
    return parse(answer.body)


def parse(text: str) -> dict[str, float]:
    """Return the samples of an exposition by name, labels in braces if there are any.

    Samples that differ only in a ``model_name`` label keep it; nothing is summed.

    Raises:
        Rejected: it is not in Prometheus' text format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    except ValueError as error:
        raise Rejected("the metrics cannot be read", str(error)) from error
    return {_name(s.name, s.labels): float(s.value) for s in samples}


def total(metrics: dict[str, float], name: str) -> float:
    """Return the sum of one metric over its labels.

    Raises:
        QwenkitError: there is no such metric.
    """
    found = [v for key, v in metrics.items() if key == name or key.startswith(name + "{")]
    if not found:
        raise QwenkitError(f"no metric {name}", f"{len(metrics)} other samples were found")
    return sum(found)


def _name(name: str, labels: dict[str, str]) -> str:
    if not labels:
        return name
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}"
