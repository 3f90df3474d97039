"""What becomes of a container's vLLM flags when a real vLLM runs them on this machine's CPU.

The container's line was written for vLLM 0.4.1 on a GPU in a pod. A flag that stands in
``LEFT_OUT`` is dropped, with the reason; those that say where the server listens, what it
serves and how it computes are replaced; every other flag, known or not, is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qwenkit.errors import SandboxError
from qwenkit.sandbox.http import LOOPBACK

_NO_GPU = "there is no GPU"
_ONE = "it is one process on one CPU"
_OLD = "newer vLLM has no such flag"
_PLAIN = "the gateway speaks plain HTTP to a port"
_FOREIGN = "code from a bucket does not run on this machine"

LEFT_OUT: Mapping[str, str] = {
    "--quantization": "the sandbox's model is not quantised",
    "--quantization-param-path": "the sandbox's model is not quantised",
    "--trust-remote-code": _FOREIGN,
    "--gpu-memory-utilization": _NO_GPU,
    "--num-gpu-blocks-override": _NO_GPU,
    "--kv-cache-dtype": _NO_GPU,
    "--cpu-offload-gb": _NO_GPU,
    "--disable-custom-all-reduce": _NO_GPU,
    "--device": _NO_GPU,
    "--tensor-parallel-size": _ONE,
    "--pipeline-parallel-size": _ONE,
    "--data-parallel-size": _ONE,
    "--worker-use-ray": _ONE,
    "--engine-use-ray": _ONE,
    "--ray-workers-use-nsight": _ONE,
    "--hf-token": "it works without a network",
    "--download-dir": "it works without a network",
    "--ssl-keyfile": _PLAIN,
    "--ssl-certfile": _PLAIN,
    "--ssl-ca-certs": _PLAIN,
    "--ssl-cert-reqs": _PLAIN,
    "--uds": _PLAIN,
    "--swap-space": _OLD,
    "--disable-log-requests": _OLD,
    "--use-v2-block-manager": _OLD,
    "--max-context-len-to-capture": _OLD,
    "--max-seq-len-to-capture": _OLD,
    "--num-lookahead-slots": _OLD,
    "--scheduler-delay-factor": _OLD,
    "--guided-decoding-backend": _OLD,
    "--tokenizer-pool-size": _OLD,
    "--tokenizer-pool-type": _OLD,
    "--tokenizer-pool-extra-config": _OLD,
    "--lora-extra-vocab-size": _OLD,
}
_SHORT = {
    "-q": "--quantization",
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
}
_SECRET = {"--api-key", "--hf-token"}
_REPLACED = {"--model", "--host", "--port", "--dtype", "--enforce-eager", "--api-key"}


@dataclass(frozen=True)
class Line:
    """A container's server line, read: its flags in their order, each with its values."""

    flags: tuple[tuple[str, tuple[str, ...]], ...]

    def last(self, name: str, default: str) -> str:
        """Return the value that argparse would take, the last one given."""
        given = [values[-1] for flag, values in self.flags if flag == name and values]
        return given[-1] if given else default

    @property
    def model(self) -> str:
        """Where the container sees its model."""
        return self.last("--model", "facebook/opt-125m").rstrip("/")

    @property
    def port(self) -> int:
        """The container's port.

        Raises:
            SandboxError: it is no number: argparse's words, exit status 2.
        """
        text = self.last("--port", "8000")
        if not text.isdecimal():
            message = f"vllm serve: error: argument --port: invalid int value: {text!r}"
            raise SandboxError(message, exit_code=2)
        return int(text)

    @property
    def api_key(self) -> str:
        """The key that requests must carry, or nothing."""
        return self.last("--api-key", "")


@dataclass(frozen=True)
class Translation:
    """What follows ``vllm``, and what was changed, a line each; neither holds a secret."""

    argv: tuple[str, ...]
    notes: tuple[str, ...]


def read(argv: Sequence[str]) -> Line:
    """Read the arguments of ``python -m vllm.entrypoints.openai.api_server``."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for word in argv:
        if word.startswith("-") and not word[1:2].isdecimal():
            name, equals, value = word.partition("=")
            name = _SHORT.get(name, name.replace("_", "-"))
            found.append((name, (value,) if equals else ()))
        elif found:
            name, values = found[-1]
            found[-1] = (name, (*values, word))
    return Line(tuple(found))


def translate(line: Line, *, folder: str, port: int) -> Translation:
    """Return the command line for this machine.

    Args:
        line: the container's.
        folder: where the model's files are here.
        port: where the server listens on loopback.
    """
    argv = ["serve", folder, "--host", LOOPBACK, "--port", str(port)]
    argv += ["--dtype", "float32", "--enforce-eager"]
    if not line.last("--served-model-name", ""):
        argv += ["--served-model-name", line.model]
    for name, values in line.flags:
        if name not in LEFT_OUT and name not in _REPLACED:
            argv += [name, *(_here(value, line.model, folder) for value in values)]
    return Translation(tuple(argv), tuple(_notes(line, port)))


def _notes(line: Line, port: int) -> Iterator[str]:
    for name, values in line.flags:
        if why := LEFT_OUT.get(name):
            shown = () if name in _SECRET else values
            yield f"{' '.join((name, *shown))} left out: {why}"
    yield f"--model {line.model}: a copy of the volume's files"
    yield f"--port {line.port}: {LOOPBACK}:{port} here"
    yield f"--dtype {line.last('--dtype', 'auto')}: float32, in which a CPU computes"
    if "--enforce-eager" not in dict(line.flags):
        yield "--enforce-eager added: compiling the model takes minutes"
    if line.api_key:
        yield "--api-key: given in the environment, where no process list shows it"


def _here(value: str, model: str, folder: str) -> str:
    """Return a value that names the model's folder, or a file in it, as it is on this machine."""
    inside = value == model or value.startswith(f"{model}/")
    return folder + value.removeprefix(model) if inside else value
