"""A Prometheus exposition becomes numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inference_server import HOST, Vllm, serving

from qwenkit.errors import NotFound, Rejected
from qwenkit.inference.metrics import parse, scrape


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Vllm()) as found:
        yield found


def test_metrics_become_numbers(url: str) -> None:
    found = scrape(url, HOST)
    assert found['vllm:num_requests_running{model_name="qwen"}'] == 2
    assert found['vllm:e2e_request_latency_seconds_count{model_name="qwen"}'] == 4
    with pytest.raises(NotFound):
        scrape(url, "other.example.com")
    with pytest.raises(Rejected, match="cannot be read"):
        parse("<html>{")
