"""Run the notebooks in order with papermill, tear down whatever happens, and report.

Each notebook gets those parameters that its ``parameters`` cell declares; all of them also
travel as ``QWENKIT_<NAME>`` in the kernel's environment, so that a notebook sees one and the
same setting whether it declares it or not.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.teardown import Leaks, TeardownReport, audit, teardown
from qwenkit.errors import Conflict, NotFound, QwenkitError, SettingsError
from qwenkit.record import read_record
from qwenkit.sandbox import process as sandbox
from qwenkit.settings import Credentials, Settings, load_settings
from qwenkit.weights.store import Weights

log = logging.getLogger("qwenkit.course")

TEARDOWN = "90"


@dataclass(frozen=True)
class NotebookResult:
    """One executed notebook. ``waited`` maps what was waited for to seconds."""

    name: str
    title: str
    passed: bool
    seconds: float
    waited: dict[str, float] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None


@dataclass(frozen=True)
class RunReport:
    """A whole run. ``ok`` is what the exit code says."""

    id: str
    folder: Path
    context: str
    seconds: float
    notebooks: tuple[NotebookResult, ...]
    teardown: TeardownReport | None
    leaks: Leaks | None
    problems: tuple[str, ...]
    interrupted: bool

    @property
    def passed(self) -> int:
        """How many notebooks passed."""
        return sum(notebook.passed for notebook in self.notebooks)

    @property
    def ok(self) -> bool:
        """True if every notebook passed, teardown worked and nothing leaked."""
        return self.passed == len(self.notebooks) > 0 and not self.problems


@dataclass(frozen=True)
class Plan:
    """What to run: notebooks in order, parameters, and where the report goes."""

    notebooks: tuple[Path, ...]
    params: Mapping[str, Any]
    folder: Path

    @property
    def tears_down(self) -> bool:
        """True if the teardown notebook is among them."""
        return any(path.name.startswith(TEARDOWN) for path in self.notebooks)


class _LocalKernel(AsyncKernelManager):
    """A kernel behind sockets in the file system: no port that others on the machine reach."""

    @default("transport")
    def _ipc(self) -> str:
        return "ipc"


def find_notebooks(folder: Path | None, only: Sequence[str] = ()) -> tuple[Path, ...]:
    """Return the numbered notebooks in order, or those whose number is in ``only``.

    Raises:
        NotFound: no notebooks there.
        SettingsError: a number in ``only`` that no notebook has.
    """
    folders = [folder] if folder else [Path("notebooks"), Path(__file__).parents[1] / "notebooks"]
    for candidate in folders:
        found = sorted(candidate.resolve().glob("[0-9][0-9]-*.ipynb"))
        if found:
            break
    else:
        raise NotFound(
            f"no notebooks in {folders[0]}", "", "run it in the repository, or give --notebooks"
        )
    numbers = [path.name[:2] for path in found]
    for number in only:
        if number not in numbers:
            raise SettingsError("only", number, f"must be among {', '.join(numbers)}")
    return tuple(path for path in found if not only or path.name[:2] in only)


def run_course(
    plan: Plan, settings: Settings, *, on_event: Callable[[str], None] = lambda line: None
) -> RunReport:
    """Run ``plan`` against the target of ``settings``; write nothing but executed notebooks.

    Ctrl-C ends the notebook that runs, then tears down; the report says ``interrupted``.

    Raises:
        Conflict: another run writes to the same place.
    """
    started = time.monotonic()
    results: list[NotebookResult] = []
    torn: tuple[TeardownReport | None, Leaks | None, tuple[str, ...]] = (None, None, ())
    interrupted = False
    with _alone(plan.folder), _target(settings, on_event), _environment(plan.params):
        settings = load_settings(**{**plan.params, "context": settings.context})
        try:
            for path in plan.notebooks:
                result = _execute(path, plan, settings)
                results.append(result)
                on_event(_line(result))
                if not result.passed:
                    break
        except KeyboardInterrupt:
            interrupted = True
            on_event("interrupted; tearing down (Ctrl-C again leaves things behind)")
        finally:
            if plan.tears_down:
                torn = _tear_down(settings, on_event)
        leaked = _secrets_in(plan.folder)
    missing = [
        NotebookResult(path.stem, _title(path), False, 0.0, error={"what": "not run"})
        for path in plan.notebooks[len(results) :]
    ]
    return RunReport(
        plan.folder.name,
        plan.folder,
        settings.context,
        round(time.monotonic() - started, 1),
        tuple(results + missing),
        torn[0],
        torn[1],
        torn[2] + leaked,
        interrupted,
    )


def new_folder(output: Path) -> Path:
    """Name a fresh folder under ``output`` by the UTC time."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 100))]
    return next(output / name for name in names if not (output / name).exists())


def _execute(path: Path, plan: Plan, settings: Settings) -> NotebookResult:
    target = plan.folder / path.name
    started = time.monotonic()
    error: dict[str, str] | None = None
    try:
        papermill.execute_notebook(
            str(path),
            str(target),
            parameters=_parameters(path, plan.params),
            kernel_name="python3",
            cwd=str(path.parent),
            progress_bar=False,
            log_output=False,
            kernel_manager_class=_LocalKernel,
            execution_timeout=int(settings.seconds("upload") if path.name[:2] == "01" else 0)
            or int(max(settings.seconds("ready"), settings.seconds("scale")) * 2 + 120),
        )
    except PapermillExecutionError as failed:
        error = {"what": f"{failed.ename}: {failed.evalue}", "cell": _cell(target, failed)}
    except (CellTimeoutError, DeadKernelError, QwenkitError) as failed:
        error = {"what": str(failed).strip().splitlines()[0]}
    seconds = round(time.monotonic() - started, 1)
    recorded: dict[str, Any] = {"result": {}, "waited": {}}
    if error is None:
        error = _hidden_error(target)
    if error is None:
        try:
            recorded = read_record(target)
        except NotFound as missing:
            error = {"what": str(missing)}
    return NotebookResult(
        path.stem,
        _title(path),
        error is None,
        seconds,
        recorded["waited"],
        recorded["result"],
        error,
    )


def _parameters(path: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``params`` that the notebook declares; refuse names that nobody knows."""
    declared = set(papermill.inspect_notebook(str(path)))
    strangers = declared - set(Settings.model_fields)
    if strangers:
        raise SettingsError(path.name, sorted(strangers), "declares parameters that no setting has")
    return {name: value for name, value in params.items() if name in declared}


def _hidden_error(executed: Path) -> dict[str, str] | None:
    """Find an exception that a widget's ``Output`` swallowed: papermill does not see it."""
    import nbformat

    state = nbformat.read(executed, as_version=4).metadata.get("widgets", {})
    for bundle in state.values():
        for model in bundle.get("state", {}).values():
            for output in model.get("state", {}).get("outputs", ()):
                if output.get("output_type") == "error":
                    return {"what": f"in a widget: {output.get('ename')}: {output.get('evalue')}"}
    return None


def _cell(executed: Path, failed: PapermillExecutionError) -> str:
    import nbformat

    for cell in nbformat.read(executed, as_version=4).cells:
        if any(output.output_type == "error" for output in cell.get("outputs", ())):
            return str(cell.id)
    return str(failed.cell_index)


def _title(path: Path) -> str:
    import nbformat

    first = nbformat.read(path, as_version=4).cells[0].source
    return str(first).splitlines()[0].lstrip("# ")


def _line(result: NotebookResult) -> str:
    if result.passed:
        waits = ", ".join(f"{what} {seconds:g} s" for what, seconds in result.waited.items())
        return f"{result.name}: passed in {result.seconds:g} s" + (f" ({waits})" if waits else "")
    error = result.error or {}
    where = f" in cell {error['cell']}" if "cell" in error else ""
    return f"{result.name}: FAILED after {result.seconds:g} s{where}: {error.get('what', '')}"


def _tear_down(
    settings: Settings, on_event: Callable[[str], None]
) -> tuple[TeardownReport | None, Leaks | None, tuple[str, ...]]:
    """Remove what a failed notebook left behind, then look for leaks; never raises."""
    try:
        cluster, weights = Cluster.connect(settings), Weights.of(settings)
        done = teardown(cluster, settings, weights=weights)
        leaks = audit(cluster, settings, weights=weights)
    except QwenkitError as error:
        on_event(f"teardown: FAILED: {error}")
        return None, None, (f"teardown: {error.what}",)
    on_event(f"teardown: {done}; leak audit: {leaks}")
    return done, leaks, tuple(f"leaked: {leak}" for leak in leaks.found)


def _secrets_in(folder: Path) -> tuple[str, ...]:
    """Return the files under ``folder`` that hold an OSS key: there must be none."""
    keys = Credentials()
    needles = [
        value.get_secret_value().encode()
        for value in (keys.access_key_secret, keys.session_token)
        if value.get_secret_value()
    ]
    return tuple(
        f"a secret is in {path.relative_to(folder)}"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make a run's folder while holding the lock beside it; refuse to run beside another."""
    output = folder.parent
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                f"another run is writing to {output}",
                "two runs against one target undo each other's work",
                "wait for it, or give --output another folder and --set run=NAME",
            ) from None
        folder.mkdir()
        yield


@contextmanager
def _target(settings: Settings, on_event: Callable[[str], None]) -> Iterator[None]:
    """Make sure that the target answers; start a sandbox of our own if none is running."""
    if settings.context != "sandbox" or _answers(settings):
        yield
        return
    root = Path(tempfile.mkdtemp(prefix="qwenkit-sandbox-"))
    try:
        state = sandbox.up(root, sandbox.Options(gpu=settings.gpu, time_scale=settings.time_scale))
        on_event(f"sandbox: up in {state.seconds:g} s, figures are modelled for a {settings.gpu}")
        with _variables(sandbox.environment(root)):
            yield
    finally:
        sandbox.down(root)
        shutil.rmtree(root, ignore_errors=True)


def _answers(settings: Settings) -> bool:
    try:
        Cluster.connect(settings)
    except QwenkitError:
        return False
    return True


def _environment(params: Mapping[str, Any]) -> AbstractContextManager[None]:
    given = {name: value for name, value in params.items() if value is not None}
    return _variables(
        {
            f"QWENKIT_{name.upper()}": str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in given.items()
        }
        | {"JUPYTER_PREFER_ENV_PATH": "1"}
    )


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
