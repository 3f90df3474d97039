"""Every parameter of the course, under one name everywhere.

A field of ``Settings`` is also a key of a params file, of ``--set``, of a notebook's
``parameters`` cell, and ``QWENKIT_<NAME>`` in the environment. Values in Python and YAML are
typed strictly, because papermill passes ``"false"`` as text and ``0123`` as a number; values
that can only be text (the environment, ``--set``) are read by the field's type.
``parameters.layers`` defines their order of precedence.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from qwenkit.autoscaling.golang import parse_duration_s
from qwenkit.errors import SettingsError
from qwenkit.parameters import oss_hosts, rules
from qwenkit.parameters.derived import Derived
from qwenkit.parameters.layers import PREFIX
from qwenkit.parameters.pod_texts import parse_env, parse_node_selector, parse_tolerations
from qwenkit.serving.images import PAGE

# The labels of all that a run creates; teardown and the leak audit select by them.
MANAGED_BY = "app.kubernetes.io/managed-by"
RUN_LABEL = "qwenkit.dev/run"
# After this time `teardown --expired` removes an object; without it, never.
EXPIRES_AT = "qwenkit.dev/expires-at"
# On a claim that holds weights: teardown keeps it, unless they are to be deleted.
WEIGHTS = "qwenkit.dev/weights"
ADMIN = "qwenkit-admin"  # manages what `render --admin` prints: no run changes or removes it
SHARED_WEIGHTS = "weights"  # the ConfigMap with the list of what a shared claim holds
API_KEY = "api-key"  # the key in the Secret that ``api_key_secret`` names

# The widest that Kubernetes (int32), and the clocks that we wait on, take.
_INT32 = 2**31 - 1
_YEAR_S = 365 * 86_400


def run_labels(run: str) -> dict[str, str]:
    """Return the labels that mark what a run creates, in the cluster and in the bucket."""
    return {MANAGED_BY: "qwenkit", RUN_LABEL: run}


def _shared(name: str, elsewhere: str) -> AliasChoices:
    """Name the variables of a field that other tools have too; ours wins."""
    return AliasChoices(PREFIX + name.upper(), elsewhere)


class Settings(Derived):
    """The parameters; each field's description is its help text.

    Raises:
        SettingsError: an unknown, mistyped or impossible value, naming it and the rule.

    >>> from qwenkit import Settings
    >>> Settings(max_scale=2).max_scale
    2
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
        loc_by_alias=False,
        env_ignore_empty=True,
    )
    # An empty value leaves these flags of vLLM out.
    empty_is_set: ClassVar[tuple[str, ...]] = ("quantization", "dtype")

    # where
    context: str = Field(
        "sandbox", description="kube context to act on; the current one is never implied"
    )
    namespace: str = Field("default", description="Kubernetes namespace")
    service: str = Field("qwen", description="name of the Knative Service")
    run: str = Field("default", description="label of this run on all that it creates")
    expires_after: str = Field(
        "", description='`teardown --expired` may then remove it, such as "8h"; empty: never'
    )

    workshop: str = Field(
        "", description="the workshop that this participant belongs to; GPUs are then by its slots"
    )

    # model
    model_source: str = Field(
        "modelscope:qwen/Qwen-7B-Chat-Int8",
        description="modelscope:owner/name[@rev], hf:owner/name[@rev] or a folder",
    )
    bucket: str = Field(
        "",
        description="OSS bucket of the weights",
        validation_alias=_shared("bucket", "OSS_BUCKET"),
    )
    prefix: str = Field("Qwen-7B-Chat-Int8", description="folder of the weights in the bucket")
    oss_endpoint: str = Field(
        "",
        description="OSS endpoint that this machine reaches",
        validation_alias=_shared("oss_endpoint", "OSS_ENDPOINT"),
    )
    oss_internal_endpoint: str = Field(
        "", description="OSS endpoint that the cluster's nodes reach; default: oss_endpoint"
    )
    oss_region: str = Field(
        "",
        description="region of the bucket, for V4 signatures, such as cn-hangzhou",
        validation_alias=_shared("oss_region", "OSS_REGION"),
    )
    oss_signature: Literal["v4", "v1"] = Field(
        "v4", description="v1 is for old accounts and buckets, where no region is known"
    )
    oss_cname: bool = Field(
        False, description="the endpoints are a custom domain (CNAME) of the bucket"
    )
    signer: str = Field(
        "",
        description="who must have signed the weights (model.sig): a file with the public key, or "
        "IDENTITY,ISSUER of Sigstore; empty: they need no signature",
    )
    oss_auth: Literal["key", "rrsa"] = Field(
        "key", description="how nodes may read the bucket: a Secret's key, or a RAM role (RRSA)"
    )
    rrsa_role: str = Field("", description="name of the RAM role; naming one chooses oss_auth=rrsa")
    storage: Literal["oss", "nas", "pvc", "shared"] = Field(
        "oss",
        description="where the weights lie: an OSS bucket, a NAS, a claim that a Job fills, or "
        "shared: a claim of an administrator's that holds them",
    )
    fuse_type: Literal["ossfs2", "ossfs"] = Field(
        "ossfs2", description="client that mounts the bucket"
    )
    nas_server: str = Field("", description="mount target of the NAS, for storage=nas")
    storage_class: str = Field(
        "", description="class of the claim, for storage=pvc; empty: the cluster's default"
    )
    storage_size: str = Field(
        "", description="size of the volume, such as 20Gi; empty: from the size of the model"
    )
    modelscope_endpoint: str = Field(
        "https://www.modelscope.cn", description="address of the ModelScope hub"
    )
    hf_endpoint: str = Field(
        "https://huggingface.co",
        description="address of the Hugging Face hub",
        validation_alias=_shared("hf_endpoint", "HF_ENDPOINT"),
    )
    transfer_image: str = Field(
        "", description="image of `upload --in-cluster`, built by the project's Dockerfile"
    )
    volume: str = Field("llm-model", description="name of the PV, the PVC and the volume")
    delete_weights: bool = Field(
        False,
        description="teardown also deletes the objects that qwenkit uploaded; a run only its own",
    )

    # server
    image: str = Field(
        PAGE.name,
        description="image of the server; by default one that runs this model on this GPU",
    )
    served_model_name: str = Field("qwen", description="model name that clients send")
    mount_path: str = Field("/Qwen-7B-Chat-Int8", description="where the weights are mounted")
    gpu: str = Field(
        "V100-16", description="GPU of the nodes, such as V100-16, T4, A10, L20 or H100"
    )
    gpu_count: int = Field(
        1, ge=0, le=16, description="GPUs per replica; 0 for a stand-in without one"
    )
    gpu_resource: str = Field(
        "nvidia.com/gpu", description="resource of a GPU, such as nvidia.com/mig-3g.40gb"
    )
    gpu_memory_gib: float | None = Field(
        None, gt=0, le=10_000, description="memory of a GPU of your own, GiB"
    )
    gpu_bandwidth_gb_s: float | None = Field(
        None, gt=0, le=1e6, description="memory bandwidth of a GPU of your own, GB/s"
    )
    gpu_tflops: float | None = Field(
        None, gt=0, le=1e6, description="dense fp16 TFLOP/s of a GPU of your own"
    )
    gpu_capability: float | None = Field(
        None, ge=1, le=99, description="compute capability of a GPU of your own, such as 8.9"
    )
    cpu_limit: str = Field("32", description="CPU limit")
    memory_limit: str = Field("64Gi", description="memory limit")
    cpu_request: str = Field("8", description="CPU request")
    memory_request: str = Field("16Gi", description="memory request")
    max_model_len: int = Field(
        6144, ge=1, le=_INT32, description="longest prompt plus answer, tokens"
    )
    gpu_memory_utilization: float = Field(0.95, gt=0, le=1, description="share of the GPU's memory")
    quantization: str = Field("gptq", description="vLLM quantization; empty for none")
    dtype: str = Field("half", description="activation type; empty for the model's own")
    extra_args: str = Field("", description="more vLLM arguments")
    env: str = Field("", description="environment of the server: NAME=value,NAME=value")
    shared_memory: str = Field(
        "", description="size of /dev/shm, such as 8Gi; empty: as tensor parallel needs it"
    )
    node_selector: str = Field("", description="labels of the nodes: key=value,key=value")
    tolerations: str = Field(
        "", description="taints to tolerate: key=value:NoSchedule or key:NoSchedule, by commas"
    )
    image_pull_secret: str = Field("", description="Secret with the registry's login")
    runtime_class: str = Field("", description="RuntimeClass of the pods, such as nvidia")
    api_key_secret: str = Field(
        "", description="Secret whose key api-key is the server's API key; empty: no key"
    )
    command: str = Field("", description="replaces the whole command line, SIGTERM included")

    # scaling: the annotations of autoscaling.knative.dev by their names
    scale_metric: Literal["concurrency", "rps"] = Field(
        "concurrency", description="what is scaled on"
    )
    scale_target: float = Field(
        2, ge=0.01, le=_INT32, description="soft target per replica, before utilisation"
    )
    min_scale: int = Field(0, ge=0, le=_INT32, description="fewest replicas")
    max_scale: int = Field(3, ge=0, le=_INT32, description="most replicas; 0: no limit")
    stable_window: str = Field("60s", description="averaging window, 6s to 1h")
    initial_scale: int | None = Field(
        None, ge=0, le=_INT32, description="replicas of a new revision"
    )
    activation_scale: int | None = Field(
        None, ge=2, le=_INT32, description="replicas when leaving zero"
    )
    target_utilization_percentage: float | None = Field(
        None, ge=1, le=100, description="share of the target aimed at; cluster default 70"
    )
    target_burst_capacity: float | None = Field(
        None, ge=-1, le=_INT32, description="burst to absorb; -1: always buffer"
    )
    panic_window_percentage: float | None = Field(
        None, ge=1, le=100, description="panic window, share of the stable one"
    )
    panic_threshold_percentage: float | None = Field(
        None, ge=110, le=1000, description="overload that starts panic"
    )
    scale_down_delay: str | None = Field(None, description="how long the highest count is kept")
    scale_to_zero_pod_retention_period: str | None = Field(
        None, description="keep the last pod this long"
    )
    metric_aggregation_algorithm: str | None = Field(
        None, description="linear or weighted-exponential"
    )
    container_concurrency: int = Field(
        0, ge=0, le=1000, description="hard limit per replica; 0: none"
    )
    progress_deadline: str = Field(
        "1800s", description="how long a revision may take to become ready"
    )
    request_timeout_s: int = Field(
        600,
        ge=1,
        le=_YEAR_S,
        description="longest request, seconds, cold start included; "
        "above 600 where the cluster's max-revision-timeout-seconds allows it",
    )

    # waiting, seconds
    timeout_s: float = Field(600, gt=0, le=_YEAR_S, description="default of the waits below")
    upload_timeout_s: float | None = Field(
        None, gt=0, le=_YEAR_S, description="upload of the weights; default 4 h"
    )
    ready_timeout_s: float | None = Field(
        None, gt=0, le=_YEAR_S, description="revision to become ready"
    )
    scale_timeout_s: float | None = Field(
        None, gt=0, le=_YEAR_S, description="replicas to scale up or down"
    )
    teardown_timeout_s: float | None = Field(
        None, gt=0, le=_YEAR_S, description="pods and volumes to be gone"
    )

    # queries and load
    gateway: str = Field(
        "", description="base URL of the Knative gateway; default: found in the cluster"
    )
    gateway_ca: str = Field(
        "", description="file with the CA of an https gateway; empty: the system's"
    )
    prompt: str = Field("杭州西湖", description="the prompt of the course")
    load_clients: int = Field(
        5, ge=1, le=10_000, description="closed-loop clients of the load test"
    )
    load_seconds: float = Field(
        0, ge=0, le=_YEAR_S, description="how long the load lasts; 0: it follows the cold start"
    )
    load_prompt_tokens: int = Field(
        1000, ge=1, le=_INT32, description="the load repeats the prompt to about so many tokens"
    )
    load_tokens: int = Field(32, ge=1, le=_INT32, description="max_tokens of a load request")
    ttft_objective_s: float = Field(
        5, gt=0, le=_YEAR_S, description="95 % of requests shall have their first token by then"
    )

    # the embedded sandbox: the one that a run starts, or a running one while the run lasts
    time_scale: float = Field(
        1,
        gt=0,
        le=1000,
        description="how much faster than the modelled GPU the sandbox's node runs",
    )

    _text = field_validator("*")(rules.text)
    _label = field_validator("namespace", "run", "volume")(rules.dns_1123)
    _name = field_validator("service")(rules.dns_1035)
    _bucket = field_validator("bucket")(rules.bucket)
    _prefix = field_validator("prefix")(rules.folder)
    _path = field_validator("model_source", "gateway_ca", "signer")(rules.path)
    _card = field_validator("gpu")(rules.card)
    _mount_path = field_validator("mount_path")(rules.mount_path)
    # Those of hubs are read when a hub is asked: other programs set HF_ENDPOINT too.
    _address = field_validator("oss_endpoint", "oss_internal_endpoint", "gateway")(rules.address)
    _region = field_validator("oss_region")(oss_hosts.region)
    _duration = field_validator(
        "stable_window",
        "scale_down_delay",
        "scale_to_zero_pod_retention_period",
        "progress_deadline",
    )(rules.duration)
    _host = field_validator("nas_server", "rrsa_role")(rules.name)
    _lifetime = field_validator("expires_after")(rules.lifetime)
    _size = field_validator("shared_memory", "storage_size")(rules.size)
    _object = field_validator("image_pull_secret", "runtime_class", "api_key_secret", "workshop")(
        rules.object_name
    )
    _env = field_validator("env")(rules.readable_by(parse_env))
    _nodes = field_validator("node_selector")(rules.readable_by(parse_node_selector))
    _taints = field_validator("tolerations")(rules.readable_by(parse_tolerations))

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_scale and self.min_scale > self.max_scale:
            raise ValueError(
                f"min_scale={self.min_scale} must not exceed max_scale={self.max_scale}"
            )
        return self

    def seconds(self, step: Literal["upload", "ready", "scale", "teardown"]) -> float:
        """Return the deadline of one long step, in seconds."""
        own: float | None = getattr(self, f"{step}_timeout_s")
        if own is not None:
            return own
        if step == "teardown" and self.timeout_s >= self.request_timeout_s:
            # The grace period of a pod is request_timeout_s; the kubelet needs some time after it.
            return max(self.timeout_s, self.request_timeout_s + 60)
        return max(self.timeout_s, 4 * 3600) if step == "upload" else self.timeout_s

    def require(self, *names: str) -> None:
        """Require parameters that have no default.

        Raises:
            SettingsError: one is empty.
        """
        for name in names:
            if not getattr(self, name):
                ours = name in ("nas_server", "rrsa_role")
                variable = f"OSS_{name.removeprefix('oss_').upper()}"
                fix = f"--set {name}=…" if ours else f"export {variable}=…, or --set {name}=…"
                raise SettingsError(name, "", "is not set", fix)

    @property
    def secret(self) -> str:
        """The name of the Secret that the volume refers to."""
        return f"{self.volume}-oss"

    @property
    def weights_url(self) -> str:
        """Where the weights lie, as commands take it and reports name it."""
        if self.storage == "oss":
            return f"oss://{self.bucket}/{self.prefix}"
        return f"pvc://{self.namespace}/{self.volume}/{self.prefix}"

    @property
    def cluster_oss_endpoint(self) -> str:
        """The OSS endpoint that the cluster's nodes reach."""
        return self.oss_internal_endpoint or self.oss_endpoint

    def expires_at(self) -> str | None:
        """Return when what is created now expires, as RFC 3339 in UTC; None for never."""
        if not self.expires_after:
            return None
        end = datetime.now(UTC) + timedelta(seconds=parse_duration_s(self.expires_after))
        return end.strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def labels(self) -> dict[str, str]:
        """The labels that mark an object as ours."""
        return run_labels(self.run)
