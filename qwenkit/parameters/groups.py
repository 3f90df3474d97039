"""The groups in which people read the settings: ``qwenkit settings`` shows them in this order."""

from __future__ import annotations

_GROUPS = {
    "where": "context namespace service run expires_after",
    "model": "model_source modelscope_endpoint hf_endpoint served_model_name max_model_len "
    "quantization dtype",
    "storage": "storage bucket prefix volume mount_path delete_weights oss_endpoint "
    "oss_internal_endpoint oss_region oss_cname oss_auth rrsa_role fuse_type nas_server "
    "storage_class storage_size transfer_image",
    "server": "image command extra_args env api_key_secret cpu_request cpu_limit memory_request "
    "memory_limit shared_memory node_selector tolerations image_pull_secret runtime_class",
    "GPU": "gpu gpu_count gpu_resource gpu_memory_utilization gpu_memory_gib gpu_bandwidth_gb_s "
    "gpu_tflops gpu_capability",
    "scaling": "scale_metric scale_target min_scale max_scale initial_scale activation_scale "
    "stable_window target_utilization_percentage target_burst_capacity panic_window_percentage "
    "panic_threshold_percentage scale_down_delay scale_to_zero_pod_retention_period "
    "metric_aggregation_algorithm container_concurrency progress_deadline request_timeout_s",
    "waiting": "timeout_s upload_timeout_s ready_timeout_s scale_timeout_s teardown_timeout_s",
    "queries and load": "gateway gateway_ca prompt load_clients load_seconds load_prompt_tokens "
    "load_tokens ttft_objective_s",
    "sandbox": "time_scale",
}
GROUPS = {group: tuple(names.split()) for group, names in _GROUPS.items()}
