"""The surroundings of a course run: its folder, target, environment and signals."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.occupants import Occupant
from qwenkit.errors import Conflict, InvalidValue, QwenkitError
from qwenkit.exercises.learner import RECORD
from qwenkit.parameters.layers import RUN_ID
from qwenkit.private_files import make_folder
from qwenkit.sandbox import process as sandbox
from qwenkit.sandbox import state_files
from qwenkit.sandbox.faults.client import time_scale
from qwenkit.settings import Settings
from qwenkit.steps import find_occupants

_OWN = ".qwenkit-"  # no other program's files in a person's folder are named so


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Create a run's folder while holding the lock beside it.

    Raises:
        Conflict: another run holds the lock; the error names its process.
        InvalidValue: the folder cannot be made.
    """
    output = folder.parent
    holder = output / f"{_OWN}pid"
    with ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(output / f"{_OWN}lock", blocking=False))
            holder.write_text(str(os.getpid()))
            stack.callback(holder.unlink, missing_ok=True)
            folder.mkdir(0o700)  # notebooks may show what is nobody else's business
        except Timeout:
            pid = holder.read_text() if holder.exists() else "unknown"
            raise Conflict(
                f"another run is writing to {output}, process {pid}",
                "two runs against one target interfere with each other",
                "wait for it, or give --output another folder, and --set service=… and volume=…",
            ) from None
        except OSError as error:
            rule = f"must be a folder that this user can write to: {error.strerror}"
            raise InvalidValue("output", str(output), rule) from error
        yield


@contextmanager
def temporary_files(folder: Path) -> Iterator[None]:
    """Keep those of a run and its kernels beside its folder: connection files with their keys.

    The lock of ``exclusive`` is held, so what is found there is of a run that was killed.
    """
    place = folder.parent.absolute() / f"{_OWN}tmp"
    shutil.rmtree(place, ignore_errors=True)
    make_folder(place)
    before, tempfile.tempdir = tempfile.tempdir, str(place)
    try:
        with _variables({"TMPDIR": str(place)}):
            yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def target(settings: Settings, on_event: Callable[[str], None]) -> Iterator[None]:
    """Make sure that the target answers; start a sandbox if none is running."""
    if settings.context != "sandbox":
        yield
        return
    if cluster := _answering(settings):
        with _adapted(cluster, settings, on_event):
            yield
        return
    sandbox.sweep(lambda line: on_event(f"sandbox: {line}"))
    options = state_files.SandboxOptions(
        gpu=settings.gpu,
        gpus=state_files.SandboxOptions.gpus if settings.gpu_count else 0,
        time_scale=settings.time_scale,
        oss_driver=settings.storage != "pvc",
    )
    hardware = f"a {settings.gpu_name}" if settings.gpu_count else "a CPU"
    with sandbox.attached(options, on_note=on_event) as (root, state):
        on_event(f"sandbox: up in {state.seconds:g} s, figures are modelled for {hardware}")
        with _variables(sandbox.environment(root)):
            yield


def _answering(settings: Settings) -> Cluster | None:
    try:
        return Cluster.connect(settings, first_answer_s=5)
    except QwenkitError:
        return None


@contextmanager
def _adapted(
    cluster: Cluster, settings: Settings, on_event: Callable[[str], None]
) -> Iterator[None]:
    """Let a running sandbox follow the settings for the length of a run; say what it cannot."""
    given = settings.model_fields_set
    root = _root_of(cluster)
    if root is None:
        if "time_scale" in given:
            on_event("sandbox: KUBECONFIG is not in its folder, so time_scale does not change it")
        yield
        return
    gpu = state_files.running(root).options.gpu
    if "gpu" in given and settings.gpu != gpu:
        on_event(
            f"sandbox: its node has {gpu}, and gpu={settings.gpu} does not change that; "
            f"for another: qwenkit sandbox down, then up --gpu {settings.gpu}"
        )
    with ExitStack() as stack:
        if "time_scale" in given:
            before = stack.enter_context(time_scale(root, settings.time_scale))
            if before != settings.time_scale:
                speeds = f"{settings.time_scale:g} times real speed for this run, then {before:g}"
                on_event(f"sandbox: its node runs at {speeds} again")
        yield


def _root_of(cluster: Cluster) -> Path | None:
    """Return the folder of the sandbox that is the cluster; None if no kubeconfig is in it."""
    files = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    for root in (*(Path(file).absolute().parent for file in files), state_files.DEFAULT_ROOT):
        if (found := state_files.find(root)) and found.api == cluster.address:
            return root
    return None


def sandbox_of(settings: Settings) -> Path | None:
    """Return the folder of the running sandbox that a run would work in, None if of none."""
    cluster = _answering(settings) if settings.context == "sandbox" else None
    return _root_of(cluster) if cluster else None


def taken_names(settings: Settings) -> tuple[Occupant, ...]:
    """Return what qwenkit made under the settings' names; nothing before a sandbox is started.

    Raises:
        QwenkitError: the cluster cannot be read, so nobody knows what a run would remove.
    """
    if settings.context == "sandbox" and not _answering(settings):
        return ()
    return find_occupants(settings)


def environment(settings: Settings, folder: Path) -> AbstractContextManager[None]:
    """Set what the kernels inherit: parameters and id of this run, and the Jupyter of this Python.

    The id is new each time: it marks what this very run uploads, whatever its label. Exercises
    that pass are noted in the run's folder, not in a learner's record.
    """
    own = {
        RUN_ID: secrets.token_hex(8),
        "JUPYTER_PREFER_ENV_PATH": "1",
        RECORD: str(folder.absolute() / "progress.json"),
    }
    return _variables(settings.deliverable() | own)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
