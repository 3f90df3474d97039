"""What follows from the model and the GPU: names, hardware, how the model is served.

Nothing here reads a file or asks a server; ``described_by`` takes what others have read.
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import PrivateAttr

from qwenkit.admission.schema.quantities import parse
from qwenkit.capacity import loading
from qwenkit.capacity.calibration.cards import CARD, gpu_named
from qwenkit.capacity.catalogue import find_config
from qwenkit.capacity.finding import Finding
from qwenkit.capacity.gpu import CPU, GIB, Gpu, gpu_of_label, mig_slice
from qwenkit.capacity.memory import LEAST_CAPABILITY
from qwenkit.capacity.model_config import ModelConfig
from qwenkit.errors import InvalidValue, SettingsError
from qwenkit.parameters.layers import Layered
from qwenkit.serving.command_line import ServerCommand, read_arguments
from qwenkit.serving.contradictions import contradictions
from qwenkit.serving.images import CURRENT, SIZE_GB, ServerImage
from qwenkit.serving.profile import ServingProfile, Wishes, batched_tokens, choose

_SERVED = ("image", "quantization", "dtype", "max_model_len")
_GPU = {"gpu", "gpu_count", "gpu_resource", "gpu_memory_gib", "gpu_capability"}
_DECIDE = {"model_source", "gpu_memory_utilization", *_GPU, *_SERVED}
_OF_IMAGE = re.compile("bin|dev|etc|lib|lib64|opt|proc|root|run|sbin|sys|tmp|usr|var")
_OWN = "gpu_memory_gib, gpu_bandwidth_gb_s, gpu_tflops and gpu_capability"


def model_name(source: str) -> str:
    """Return the last part of a model's source, a revision dropped; "" if it has none."""
    hub = source.startswith(("modelscope:", "hf:"))
    path = source.partition("@")[0] if hub else os.path.abspath(os.path.expanduser(source))
    name = path.rstrip("/").rpartition("/")[2]
    return "" if ".." in name else name


def names_of(source: str) -> dict[str, str]:
    """Return the settings that are named after a model."""
    name = model_name(source)
    served = "qwen" if "qwen" in name.lower() else name.lower()
    path = f"/models/{name}" if _OF_IMAGE.fullmatch(name) else f"/{name}"
    named = {"prefix": name, "mount_path": path, "served_model_name": served}
    return named if name else {}


class Derived(Layered):
    """The settings that follow from others, unless they are set."""

    if TYPE_CHECKING:  # fields of Settings
        model_source: str
        storage: Any
        rrsa_role: str
        gpu: str
        gpu_count: int
        gpu_resource: str
        gpu_memory_gib: float | None
        gpu_bandwidth_gb_s: float | None
        gpu_tflops: float | None
        gpu_capability: float | None
        gpu_memory_utilization: float
        image: str
        max_model_len: int
        memory_limit: str
        extra_args: str
        command: str
        shared_memory: str
        fuse_type: str

    _model: ModelConfig | None = PrivateAttr(None)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if "model_source" in self.model_fields_set:
            self._derive(names_of(self.model_source), "model_source")
        if "rrsa_role" in self.model_fields_set:
            self._derive({"oss_auth": "rrsa" if self.rrsa_role else "key"}, "rrsa_role")
        if self.model_fields_set & _DECIDE:
            with suppress(SettingsError):  # of the GPU: who needs it, names it
                self._derive(self._served(), self._origin())

    @property
    def model_name(self) -> str:
        """The model's name: the last part of its source, a revision dropped; "" if it has none."""
        return model_name(self.model_source)

    @property
    def model(self) -> ModelConfig | None:
        """The model's configuration: what ``described_by`` took, else the catalogue's, if any."""
        return self._model or find_config(self.model_name)

    @property
    def hardware(self) -> Gpu:
        """The GPU of a pod, or its slice, with the numbers that are set; the CPU without one.

        Raises:
            SettingsError: the table has no such GPU, and not all four numbers are set; or there is
                no such card.
        """
        numbers = {
            "usable_gib": self.gpu_memory_gib,
            "bandwidth_gb_s": self.gpu_bandwidth_gb_s,
            "fp16_tflops": self.gpu_tflops,
            "compute_capability": self.gpu_capability,
        }
        own: dict[str, Any] = {n: value for n, value in numbers.items() if value is not None}
        card = self.gpu.startswith(CARD)
        if not own and not self.gpu_count and not card:
            return CPU
        try:
            if own == numbers and not card and gpu_of_label(self.gpu) is None:
                return Gpu(self.gpu, **own)
            gpu, sliced = gpu_named(self.gpu), "/mig-" in self.gpu_resource and not own
            return mig_slice(gpu, self.gpu_resource) if sliced else replace(gpu, **own)
        except InvalidValue as error:
            more = f"; or set {_OWN} of yours" if error.name == "gpu" and not card else ""
            raise SettingsError(error.name, error.value, error.rule, error.fix + more) from None

    @property
    def gpu_name(self) -> str:
        """The GPU's name; of a measured card, that of the GPU that it is."""
        return self.hardware.label if self.gpu.startswith(CARD) else self.gpu

    @property
    def profile(self) -> ServingProfile:
        """How the model is served on this GPU: what is set, the rest derived, with reasons."""
        wishes = Wishes(
            **{name: getattr(self, name) for name in _SERVED if name in self.model_fields_set},
            gpu_memory_utilization=self.gpu_memory_utilization,
            shared_memory=self.shared_memory,
            fuse=self.fuse_type if self.storage in ("oss", "shared") else "",
        )
        return choose(self.model, self.hardware, self.gpu_count, wishes, name=self.model_name)

    def sizes(self) -> dict[str, Any]:
        """Return what ``fit``, ``what_would_fit`` and ``VllmServer`` take.

        The server's own flags, in ``extra_args`` or ``command``, win over other settings. A CPU's
        memory is the pod's limit.

        Raises:
            SettingsError: the GPU is not known, or the model's ``config.json`` was not found.
        """
        gpu, config, image = self.hardware, self.model, ServerImage(self.image)
        if config is None:
            rule = "a public model of the catalogue, or one whose config.json can be read"
            fix = "name a folder that holds it; or is the name right, and can the hub be reached?"
            raise SettingsError("model_source", self.model_source, rule, fix)
        if gpu is CPU:
            with suppress(ValueError):
                gpu = replace(CPU, usable_gib=float(parse(self.memory_limit)) / GIB)
        model = config.model()
        if model.quantization == "gptq" and image.has(0, 6):
            # Where it runs (LEAST_CAPABILITY), vLLM takes this faster kernel for it.
            newer = gpu.compute_capability >= LEAST_CAPABILITY["gptq_marlin"]
            model = replace(model, quantization="gptq_marlin" if newer else "gptq")
        given, eager, tokens = self.flags, "enforce-eager", batched_tokens(image, gpu)
        wants_eager = not self.command and bool(self.profile.value(f"--{eager}"))

        def number(flag: str, otherwise: float) -> int:
            return int(given.number(flag, otherwise) or otherwise)

        share = self.gpu_memory_utilization
        return {
            "gpu": gpu,
            "model": model,
            "gpus": number("tensor-parallel-size", max(1, self.gpu_count)),
            "max_model_len": number("max-model-len", self.max_model_len),
            "gpu_memory_utilization": given.number("gpu-memory-utilization", share) or share,
            "max_num_seqs": number("max-num-seqs", 256),
            "batched_tokens": tokens and number("max-num-batched-tokens", tokens),
            "eager": wants_eager or eager in given.options,
            "chunked_prefill": "no-enable-chunked-prefill" not in given.options,
        }

    @property
    def flags(self) -> ServerCommand:
        """The server's flags that ``extra_args`` and ``command`` give."""
        try:
            words = shlex.split(f"{self.extra_args} {self.command}")
        except ValueError:  # an open quote: who renders says so
            words = []
        return read_arguments(words)

    @property
    def cold_start(self) -> loading.EstimatedStart:
        """How long a pod takes to become ready: estimated from model, image, volume and flags.

        Raises:
            SettingsError: the GPU or the model is not known.
        """
        sizes, image, name = self.sizes(), ServerImage(self.image), "safetensors-load-strategy"
        eager, v1 = sizes["eager"], sizes["batched_tokens"] is not None
        derived = "" if self.command else self.profile.value(f"--{name}")
        by_itself = "prefetch" if self.storage == "nas" and image.version >= (0, 19) else "lazy"
        read = loading.weights_seconds(
            sizes["model"].weights_bytes,
            {"nas": "nas", "pvc": "disk"}.get(self.storage, self.fuse_type),
            self.flags.text(name) or derived or by_itself,
            readers=sizes["gpus"],
        )
        gb = SIZE_GB.get(self.image, SIZE_GB[CURRENT.name])
        graphs = [loading.GRAPHS] * (eager or image.cpu)
        left_out = [loading.COMPILE] * (eager or not v1) + graphs
        return loading.estimate_start(read, image_gb=gb, left_out=left_out)

    def described_by(self, config: ModelConfig | None) -> Self:
        """Return a copy that follows from a ``config.json``; set values stay."""
        made = self.model_copy()
        made._model = config or self._model
        return made.derived(made._served(), made._origin())

    def contradictions(self) -> list[Finding]:
        """Return what cannot work among the values that somebody set."""
        return contradictions(
            self.model,
            self.hardware,
            self.gpu_count,
            self.profile,
            {name: getattr(self, name) for name in self.model_fields_set},
            gpu_memory_utilization=self.gpu_memory_utilization,
        )

    def _served(self) -> dict[str, Any]:
        found = self.profile
        texts = {name: found.value(name) for name in _SERVED}
        return {**texts, "max_model_len": found.max_model_len}

    def _origin(self) -> str:
        return f"config.json of {self.model_name}" if self.model else "model_source and gpu"
