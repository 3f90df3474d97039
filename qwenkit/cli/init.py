"""``qwenkit init``: five questions, a params file, and what doctor says of it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from qwenkit.capacity.catalogue import find_known
from qwenkit.capacity.gpu import GPUS, find_gpu, gpu_of_label
from qwenkit.cli import serving
from qwenkit.cli.console import agreed, can_ask, tell
from qwenkit.errors import ConsentNeeded, InvalidValue, QwenkitError
from qwenkit.language import said
from qwenkit.sandbox import process, state_files
from qwenkit.settings import Settings

_LOOK_S = 5.0
_NO_GPU = "none"
_HEAD = """\
# Written by `qwenkit init`; use it with -p. `qwenkit settings -p FILE` lists every other parameter.
# Keys are no parameters: OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET stay in the environment.
"""
_NO_OSS = """\
no bucket: this cluster has no driver that mounts OSS. storage: pvc is written instead, a claim
  that a Job fills; write storage: oss and a bucket once the driver is installed."""


def init(
    file: Annotated[Path, typer.Argument(help="The params file to write.")] = Path("qwenkit.yaml"),
    yes: Annotated[
        bool, typer.Option("--yes", help="Take what is offered, ask nothing, replace FILE.")
    ] = False,
) -> None:
    """Ask five questions, write a params file, and run doctor on it."""
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise InvalidValue("FILE", str(file), "must be a file in a folder that exists")
    if file.exists() and not yes:
        if not can_ask():
            fix = "name another file, or --yes, which replaces it"
            raise ConsentNeeded(f"{file} exists", "it was not changed", fix)
        if not agreed(f"{file} exists. Replace it at the end?"):
            raise typer.Exit(1)
    _write(file)
    given = _answers(_Questions(yes=yes))
    text = _HEAD + "".join(_entry(name, value) for name, value in given.items())
    _write(file, text)
    typer.echo(f"{file}:\n{text}\nqwenkit doctor -p {file}")
    serving.doctor(file)


def _answers(ask: _Questions) -> dict[str, Any]:
    found: dict[str, Any] = {"context": ask("context", "Target", _contexts(), _context)}
    gpu, mounts_oss = _look(found["context"])
    offered = Settings.load(context=found["context"])
    models = [offered.model_source, "Qwen3-8B", "hf:Qwen/Qwen3-8B"]
    found["model_source"] = ask("model_source", "Model", models, _model)
    gpu = ask("gpu", "GPU", [gpu or offered.gpu, *GPUS, _NO_GPU], _gpu)
    found |= {"gpu_count": 0} if gpu == _NO_GPU else {"gpu": gpu}
    if mounts_oss:
        found["bucket"] = ask("bucket", "OSS bucket", [offered.bucket], _checked("bucket"))
    else:
        tell(_NO_OSS)
        found["storage"] = "pvc"
    found["namespace"] = ask("namespace", "Namespace", [offered.namespace], _checked("namespace"))
    return found


class _Questions:
    """Asks for one setting after another, each until its answer is right."""

    def __init__(self, *, yes: bool) -> None:
        self._yes, self._number = yes, 0
        if not yes:
            tell("Enter takes what is in brackets, ? explains, Ctrl-C leaves nothing behind.")

    def __call__(self, name: str, words: str, known: list[str], check: Callable[[str], str]) -> str:
        """Return the checked answer; the first of ``known`` is offered, ``?`` shows all."""
        self._number += 1
        while True:
            answer = known[0] if self._yes else self._read(f"{self._number}/5 {words}", known[0])
            if answer == "?":
                such = ", ".join(dict.fromkeys(filter(None, known))) or "my-bucket"
                tell(f"  {Settings.model_fields[name].description}\n  such as: {such}")
                continue
            try:
                return check(answer)
            except QwenkitError as error:
                if self._yes:
                    raise
                tell(f"  {error.what}: {error.why}")

    def _read(self, question: str, offer: str) -> str:
        try:
            answer = str(
                typer.prompt(said(question), default=offer, show_default=bool(offer))
            ).strip()
        except typer.Abort:
            if can_ask():
                raise
            why = "the input ended, and nothing was written"
            fix = "give five lines, or --yes, which takes what is offered"
            raise ConsentNeeded(f"{question}: no answer", why, fix) from None
        if not can_ask():  # no terminal has shown it
            typer.echo(answer)
        return answer


def _contexts() -> list[str]:
    """Return the contexts; a sandbox that runs, and that this shell does not know, is used."""
    from qwenkit.cluster.api.connect import contexts

    if "sandbox" not in contexts() and state_files.find(state_files.DEFAULT_ROOT):
        os.environ.update(process.environment(state_files.DEFAULT_ROOT))
        tell('a sandbox runs; for your shell: eval "$(qwenkit sandbox env)"')
    return list(dict.fromkeys([Settings.load().context, "sandbox", *contexts()]))


def _context(answer: str) -> str:
    if answer in (known := _contexts()):
        return answer
    raise InvalidValue("context", answer, f"must be one of {', '.join(known)}")


def _look(context: str) -> tuple[str, bool]:
    """Return the GPU of the nodes, empty if it is not known, and whether they can mount OSS."""
    from qwenkit.cluster.api.retries import within
    from qwenkit.cluster.client import Cluster
    from qwenkit.cluster.kinds import NODE
    from qwenkit.cluster.pods import gpu_label, gpus_of
    from qwenkit.cluster.preflight import needs

    settings = Settings.load(context=context)
    try:
        with within(_LOOK_S), closing(Cluster.connect(settings)) as cluster:
            nodes = [node for node in cluster.list(NODE) if gpus_of(node)]
            driver = needs.driver(cluster, settings)
    except QwenkitError as error:
        tell(f"nothing is detected: {error.what}: {error.why}")
        return "", True
    found = Counter(gpu_of_label(gpu_label(node)) for node in nodes).most_common()
    gpu = next((gpu.name for gpu, _ in found if gpu), "" if nodes else _NO_GPU)
    return gpu, driver.verdict != "fail"


def _gpu(answer: str) -> str:
    return answer if answer == _NO_GPU else find_gpu(answer).name


def _model(answer: str) -> str:
    from qwenkit.weights.hub.repository import parse_source

    if os.path.isdir(answer):
        if not os.path.isfile(os.path.join(answer, "config.json")):
            raise InvalidValue("model_source", answer, "is a folder without a config.json")
        return os.path.abspath(answer)
    if known := find_known(answer) if ":" not in answer else None:
        return f"{known.hub}/{known.config.name}"
    if parse_source(answer).kind == "folder":
        raise InvalidValue("model_source", answer, "is neither a folder here nor a model we know")
    return answer


def _checked(name: str) -> Callable[[str], str]:
    def check(answer: str) -> str:
        if not answer:
            raise InvalidValue(name, answer, "must be given", f"type the name of your {name}")
        return str(getattr(Settings.load(None, None, **{name: answer}), name))

    return check


def _entry(name: str, value: object) -> str:
    meaning = Settings.model_fields[name].description
    return f"\n# {meaning}\n{name}: {json.dumps(value, ensure_ascii=False)}\n"


def _write(file: Path, text: str = "") -> None:
    """Write the file; without a text, only try whether it could be."""
    new = not file.exists()
    try:
        with file.open("w" if text else "a", encoding="utf-8") as opened:
            opened.write(text)
        if new and not text:
            file.unlink()
    except OSError as error:
        raise InvalidValue("FILE", str(file), f"cannot be written: {error.strerror}") from None
