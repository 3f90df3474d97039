"""Metrics are read through the API server, by the names of old and new versions."""

from __future__ import annotations

import pytest
from cluster_api import Api, status

from qwenkit.cluster import pod_metrics
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.pod_metrics import EngineMetrics, MetricsReader, ScalerMetrics

OLD_VLLM = """# HELP vllm:num_requests_running Number of requests currently running on GPU.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="qwen"} 3.0
vllm:num_requests_waiting{model_name="qwen"} 2.0
vllm:gpu_cache_usage_perc{model_name="qwen"} 0.25
vllm:prompt_tokens_total{model_name="qwen"} 100.0
vllm:generation_tokens_total{model_name="qwen"} 640.0
vllm:request_success_total{finished_reason="stop",model_name="qwen"} 4.0
vllm:request_success_total{finished_reason="length",model_name="qwen"} 6.0
vllm:request_success_total_of_another{model_name="qwen"} 9.0
vllm:e2e_request_latency_seconds_bucket{le="1.0",model_name="qwen"} 3.0
"""
NEW_VLLM = OLD_VLLM.replace("gpu_cache", "kv_cache").replace("{model", '{engine="0",model')
OLD_KNATIVE = """autoscaler_stable_request_concurrency{NAMES} 4.5
autoscaler_panic_request_concurrency{NAMES} 6
autoscaler_panic_mode{NAMES} 1
autoscaler_actual_pods{NAMES} 2
""".replace("NAMES", 'namespace_name="default",revision_name="r",service_name="s"')
NEW_KNATIVE = """kn_revision_rps_stable{NAMES} 4.5
kn_revision_rps_panic{NAMES} 6
kn_revision_panic_mode{NAMES} 1
kn_revision_rps_stable{OTHER} 9
""".replace("NAMES", 'k8s_namespace_name="default",kn_revision_name="r"').replace(
    "OTHER", 'k8s_namespace_name="else",kn_revision_name="r"'
)


@pytest.mark.parametrize(
    ("vllm", "knative"), [(OLD_VLLM, OLD_KNATIVE), (NEW_VLLM, NEW_KNATIVE)], ids=["old", "new"]
)
def test_the_names_of_every_version_are_known(
    cluster: Cluster, api: Api, vllm: str, knative: str
) -> None:
    api.ports = {"pod:8080": vllm, "autoscaler:9090": knative}
    found = MetricsReader(cluster).read({"pod": 8080})
    assert found.unknown == {}
    assert found.engines == {"pod": EngineMetrics(3, 2, 0.25, 100, 640, 10)}
    assert found.scalers == {"r": ScalerMetrics(4.5, 6)}


def test_what_does_not_answer_is_asked_again_after_a_pause(
    cluster: Cluster, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_metrics, "_READ_S", 0.2)
    api.refuse = lambda _, path, __: (
        status(503, "ServiceUnavailable", "error trying to reach service")
        if "9090" in path
        else None
    )
    api.ports = {"pod:8080": OLD_VLLM}
    reader = MetricsReader(cluster)
    reader.read({})
    asked = len(api.requests)
    again = reader.read({"pod": 8080})
    assert again.unknown["autoscaler"].startswith("error trying to reach service")
    assert len(api.requests) == asked + 1  # the pod alone
    assert again.engines["pod"].waiting == 2


def test_what_cannot_be_read_is_said(cluster: Cluster, api: Api) -> None:
    api.ports = {
        "odd:8080": "vllm:num_requests_waiting{ 3\n",
        "nan:8080": 'vllm:num_requests_waiting{model_name="q"} NaN\n',
        "ok:8080": 'vllm:num_requests_waiting{model_name="q"} 1\n',
    }
    found = MetricsReader(cluster).read({"odd": 8080, "nan": 8080, "ok": 8080})
    assert found.engines == {"ok": EngineMetrics(waiting=1)}
    assert "not in the text format of Prometheus" in found.unknown["vLLM"]
    assert "autoscaler:9090" in found.unknown["autoscaler"]
