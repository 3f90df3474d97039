"""Which flags does a real vLLM get on this machine's CPU for those of a container?

The container's command was written for vLLM 0.4.1 on a GPU in a pod. The flags for address, model
and number format are replaced; those in ``PASSED`` reach it, if their values have the listed form;
every other one is left out, with the reason: many of vLLM's flags run code, read files or fetch
from somewhere, and whoever may apply a YAML chooses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwenkit.errors import SandboxError
from qwenkit.sandbox.http import LOOPBACK

_REASONS = {
    "the sandbox's model is not quantised": "--quantization --quantization-param-path",
    "code from a bucket does not run on this machine": "--trust-remote-code --load-format "
    "--tool-parser-plugin --reasoning-parser-plugin --logits-processors --middleware "
    "--logits-processor-pattern --worker-cls --worker-extension-cls --chat-template",
    "there is no GPU": "--gpu-memory-utilization --num-gpu-blocks-override --kv-cache-dtype "
    "--cpu-offload-gb --disable-custom-all-reduce --device",
    "it is one process on one CPU": "--tensor-parallel-size --pipeline-parallel-size "
    "--data-parallel-size --worker-use-ray --engine-use-ray --ray-workers-use-nsight",
    "it works without a network": "--hf-token --download-dir",
    "the gateway speaks plain HTTP to a port": "--ssl-keyfile --ssl-certfile --ssl-ca-certs "
    "--ssl-cert-reqs --uds",
    "newer vLLM has no such flag": "--swap-space --disable-log-requests --use-v2-block-manager "
    "--max-context-len-to-capture --max-seq-len-to-capture --num-lookahead-slots "
    "--scheduler-delay-factor --guided-decoding-backend --tokenizer-pool-size "
    "--tokenizer-pool-type --tokenizer-pool-extra-config --lora-extra-vocab-size",
}
_FORMS = {
    "": "--disable-log-stats --disable-uvicorn-access-log --enable-auto-tool-choice "
    "--enable-chunked-prefill --no-enable-chunked-prefill --enable-log-requests "
    "--enable-prefix-caching --no-enable-prefix-caching --return-tokens-as-token-ids",
    r"-?[0-9]{1,9}(\.[0-9]{1,9})?[kKmM]?|auto": "--max-model-len --max-num-seqs "
    "--max-num-batched-tokens --max-logprobs --max-log-len --block-size --seed",
    "auto|slow": "--tokenizer-mode",
    "critical|error|warning|info|debug|trace": "--uvicorn-log-level",
    "[a-z][a-z0-9_]{0,63}": "--tool-call-parser --reasoning-parser --response-role",
    r"[\w/][\w./:+-]{0,254}": "--served-model-name",
}
PASSED = {flag: form for form, flags in _FORMS.items() for flag in flags.split()}
_NOT_LISTED = "it is not among the flags that are passed on"
LEFT_OUT = {flag: reason for reason, flags in _REASONS.items() for flag in flags.split()}
_SHORT = {
    "-q": "--quantization",
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
}
_SECRET = {"--api-key", "--hf-token"}
_REPLACED = {"--model", "--host", "--port", "--dtype", "--enforce-eager", "--api-key"}


@dataclass(frozen=True)
class VllmCommandLine:
    """The flags of a container's vLLM command in their order, each with its values."""

    flags: tuple[tuple[str, tuple[str, ...]], ...]

    def last(self, name: str, default: str) -> str:
        """Return the last value given, which argparse takes."""
        given = [values[-1] for flag, values in self.flags if flag == name and values]
        return given[-1] if given else default

    @property
    def model(self) -> str:
        """The path of the model in the container."""
        return self.last("--model", "facebook/opt-125m").rstrip("/")

    @property
    def port(self) -> int:
        """The container's port.

        Raises:
            SandboxError: it is not a number: argparse's message, exit status 2.
        """
        text = self.last("--port", "8000")
        if not (text.isdecimal() and len(text) < 6):
            message = f"vllm serve: error: argument --port: invalid int value: {text!r}"
            raise SandboxError(message, exit_code=2)
        return int(text)

    @property
    def api_key(self) -> str:
        """The key that requests must carry, or ""."""
        return self.last("--api-key", "")


@dataclass(frozen=True)
class Translation:
    """The arguments of ``vllm``, and a note for each change; neither holds a secret."""

    argv: tuple[str, ...]
    notes: tuple[str, ...]


def read(argv: Sequence[str]) -> VllmCommandLine:
    """Read the arguments of ``python -m vllm.entrypoints.openai.api_server``."""
    found: list[tuple[str, tuple[str, ...]]] = []
    if argv and not argv[0].startswith("-"):
        argv = ("--model", *argv)
    for word in argv:
        if word.startswith("-") and not word[1:2].isdecimal():
            name, equals, value = word.partition("=")
            name = _SHORT.get(name, name.replace("_", "-"))
            found.append((name, (value,) if equals else ()))
        elif found:
            name, values = found[-1]
            found[-1] = (name, (*values, word))
    return VllmCommandLine(tuple(found))


def translate(line: VllmCommandLine, *, folder: str, port: int) -> Translation:
    """Return the command line for this machine.

    Args:
        line: the container's command.
        folder: the folder of the model's files on this machine.
        port: where the server listens on loopback.
    """
    argv = ["serve", folder, "--host", LOOPBACK, "--port", str(port)]
    argv += ["--dtype", "float32", "--load-format", "safetensors", "--enforce-eager"]
    passed = [one for one in line.flags if one[0] not in _REPLACED and not _why_not(line, *one)]
    if "--served-model-name" not in dict(passed):
        argv += ["--served-model-name", line.model]
    for name, values in passed:
        if name == "--tokenizer":
            values = (folder + values[0].removeprefix(line.model),)
        argv += [name, *values]
    return Translation(tuple(argv), tuple(_notes(line, port)))


def _why_not(line: VllmCommandLine, name: str, values: Sequence[str]) -> str | None:
    """Return why a flag is left out, None if it is passed on."""
    if why := LEFT_OUT.get(name):
        return why
    if name == "--tokenizer":
        inside = len(values) == 1 and f"{values[0]}/".startswith(f"{line.model}/")
        return None if inside and ".." not in values[0].split("/") else "it is not in the volume"
    if name in _REPLACED:
        return None
    if (form := PASSED.get(name)) is None:
        return _NOT_LISTED
    fewest, most = (1, 99 if name == "--served-model-name" else 1) if form else (0, 0)
    if fewest <= len(values) <= most and all(re.fullmatch(form, value) for value in values):
        return None
    return f"its value must match {form}" if form else "it takes no value"


def _notes(line: VllmCommandLine, port: int) -> Iterator[str]:
    for name, values in line.flags:
        if why := _why_not(line, name, values):
            shown = () if name in _SECRET or why is _NOT_LISTED else values
            yield f"{' '.join((name, *shown))} left out: {why}"
    yield f"--model {line.model}: a copy of the volume's files"
    yield f"--port {line.port}: {LOOPBACK}:{port} here"
    yield "--load-format safetensors: a pickle from a bucket is code"
    yield f"--dtype {line.last('--dtype', 'auto')}: float32, in which a CPU computes"
    if "--enforce-eager" not in dict(line.flags):
        yield "--enforce-eager added: compiling the model takes minutes"
    if line.api_key:
        yield "--api-key: given in the environment, where no process list shows it"
