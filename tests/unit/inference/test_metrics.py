"""A Prometheus exposition becomes numbers."""

from __future__ import annotations

import pytest
from inference_server import METRICS

from qwenkit.errors import Rejected
from qwenkit.inference.metrics import parse


def test_metrics_become_numbers() -> None:
    found = parse(METRICS)
    assert found['vllm:num_requests_running{model_name="qwen"}'] == 2
    assert found['vllm:e2e_request_latency_seconds_count{model_name="qwen"}'] == 4
    with pytest.raises(Rejected, match="cannot be read"):
        parse("<html>{")
