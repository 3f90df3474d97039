"""Run the notebooks in order with papermill, always tear down, and report.

Parameters reach the kernels once, in ``QWENKIT_PARAMETERS``: every notebook sees the same
settings, and prints where each value came from. Access keys are not parameters: the kernels
inherit them from the environment.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.manager import AsyncKernelManager
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from qwenkit.cluster.client import Cluster
from qwenkit.cluster.occupants import Occupant
from qwenkit.cluster.removal import Manner
from qwenkit.cluster.teardown import Leaks, TeardownReport, remove_and_audit
from qwenkit.course import failures
from qwenkit.course.interrupts import terminable
from qwenkit.course.kernel import OwnKernel
from qwenkit.course.record import read_record
from qwenkit.course.target import environment, exclusive, target, temporary_files
from qwenkit.errors import NotFound, QwenkitError, SettingsError
from qwenkit.errors.scrubbing import HIDDEN, holds_secret, scrub, scrubbed
from qwenkit.evidence import evidence
from qwenkit.in_cluster.weights import Weights
from qwenkit.language import ENGLISH
from qwenkit.settings import Settings
from qwenkit.steps import evict

TEARDOWN, INSTRUCTORS = "90", "80"
EVIDENCE = "evidence"
_SOCKET_NAME = 100  # bytes; macOS takes 103, with the number behind it


@dataclass(frozen=True)
class NotebookResult:
    """One notebook. ``waited``: seconds by what it waited for; ``skipped``: it never began."""

    name: str
    title: str
    passed: bool
    seconds: float
    waited: dict[str, float] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None
    skipped: bool = False


@dataclass(frozen=True)
class RunReport:
    """A whole run. ``ok`` decides the exit code.

    ``began`` is the UTC time, ISO 8601; ``settings`` are the parameters by name; ``unchosen``
    names the notebooks of the course that were not asked for.
    """

    id: str
    folder: Path
    context: str
    seconds: float
    notebooks: tuple[NotebookResult, ...]
    teardown: TeardownReport | None
    leaks: Leaks | None
    problems: tuple[str, ...]
    interrupted: bool
    began: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    unchosen: tuple[str, ...] = ()

    @property
    def passed(self) -> int:
        """How many notebooks passed."""
        return sum(notebook.passed for notebook in self.notebooks)

    @property
    def ok(self) -> bool:
        """True if every notebook passed, teardown worked and nothing leaked."""
        return self.passed == len(self.notebooks) > 0 and not self.problems


@dataclass(frozen=True)
class CourseRun:
    """What to run: notebooks in order, where the report goes, and what was not chosen."""

    notebooks: tuple[Path, ...]
    folder: Path
    unchosen: tuple[str, ...] = ()

    @property
    def tears_down(self) -> bool:
        """True if the teardown notebook is among them."""
        return any(path.name.startswith(TEARDOWN) for path in self.notebooks)


class _LocalKernel(AsyncKernelManager):
    """A kernel of this environment, behind sockets among the run's temporary files: no port."""

    @default("kernel_spec_manager")
    def _of_this_environment(self) -> OwnKernel:
        return OwnKernel(parent=self)

    @default("transport")
    def _ipc(self) -> str:
        return "ipc" if len(os.fsencode(_sockets())) < _SOCKET_NAME else "tcp"

    @default("ip")
    def _beside(self) -> str:
        return _sockets() if self.transport == "ipc" else "127.0.0.1"


def _sockets() -> str:
    """Return how the names of a kernel's sockets begin; it runs in this working directory."""
    place = os.path.join(tempfile.gettempdir(), "kernel")
    return min(place, os.path.relpath(place), key=len)


def find_notebooks(
    folder: Path | None, only: Sequence[str] = (), lang: str = ENGLISH
) -> tuple[Path, ...]:
    """Return the numbered notebooks in order, or those whose number is in ``only``.

    Without a folder they are the course's, in the language ``lang``. The instructor's, which
    needs an administrator's rights, is no part of a learner's course: it has to be named.

    Raises:
        NotFound: no notebooks there.
        SettingsError: a number in ``only`` that no notebook has.
    """
    places = Path("notebooks"), Path(__file__).parents[2] / "notebooks"
    folders = [folder] if folder else [place / lang.replace(ENGLISH, "") for place in places]
    for candidate in folders:
        exists = os.path.isdir(candidate)
        found = sorted(candidate.resolve().glob("[0-9][0-9]-*.ipynb")) if exists else []
        if found:
            break
    else:
        raise NotFound(
            f"no notebooks in {folders[0]}",
            "no file there is named as 00-preflight.ipynb is",
            "run it in the repository, or give --notebooks",
        )
    numbers = [path.name[:2] for path in found]
    for number in only:
        if number not in numbers:
            raise SettingsError("only", number, f"must be among {', '.join(numbers)}")
    wanted = only or [number for number in numbers if number != INSTRUCTORS]
    return tuple(path for path in found if path.name[:2] in wanted)


def run_course(
    run: CourseRun,
    settings: Settings,
    *,
    evicted: Sequence[Occupant] = (),
    on_event: Callable[[str], None] = lambda line: None,
) -> RunReport:
    """Run the notebooks against the target of ``settings``; write the executed notebooks.

    ``evicted`` are objects of other runs that are removed first. Ctrl-C or SIGTERM ends the running
    notebook, then tears down; the report is marked ``interrupted``. After a failure,
    the folder ``evidence`` says what the cluster was like.

    Raises:
        Conflict: another run writes to the same place.
        WaitTimeout: an object of another run is not removed in time.
    """
    started, began = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    results: list[NotebookResult] = []
    torn: tuple[TeardownReport | None, Leaks | None, tuple[str, ...]] = (None, None, ())
    interrupted = False
    with (
        exclusive(run.folder),
        terminable(),
        target(settings, on_event),
        temporary_files(run.folder),
        environment(settings, run.folder),
    ):
        settings = settings.again()  # with the addresses of a sandbox that was just started
        on_event(f"run: the label of what it makes is {settings.run}")
        _evict(settings, evicted, on_event)
        try:
            _run_notebooks(run, settings, results, on_event)
        except KeyboardInterrupt:
            interrupted = True
            on_event("interrupted; tearing down (another Ctrl-C would leave objects behind)")
        finally:
            if run.tears_down:
                torn = _tear_down(settings, on_event)
        leaked = _secrets_in(run.folder)
    results += _missing(run.notebooks[len(results) :], interrupted)
    return RunReport(
        run.folder.name,
        run.folder,
        settings.context,
        round(time.monotonic() - started, 1),
        tuple(results),
        torn[0],
        torn[1],
        torn[2] + leaked,
        interrupted,
        began,
        scrubbed(settings.model_dump(mode="json")),
        run.unchosen,
    )


def _evict(
    settings: Settings, evicted: Sequence[Occupant], on_event: Callable[[str], None]
) -> None:
    def show(step: object) -> None:
        on_event(f"removed first: {step}")

    if error := evict(settings, evicted, on_step=show, manner=Manner(on_change=show)):
        raise error


def _run_notebooks(
    run: CourseRun,
    settings: Settings,
    results: list[NotebookResult],
    on_event: Callable[[str], None],
) -> None:
    """Add a result for each notebook, up to the first that fails."""
    for path in run.notebooks:
        results.append(_execute(path, run, settings))
        on_event(_line(results[-1]))
        if not results[-1].passed:
            _keep_evidence(settings, run.folder / EVIDENCE, on_event)
            return


def _missing(paths: Sequence[Path], interrupted: bool) -> list[NotebookResult]:
    """Return a result for each notebook that did not finish; an interrupt hit the first."""
    why = "the run was interrupted" if interrupted else "a notebook before it failed"
    missing = []
    for number, path in enumerate(paths):
        hit = interrupted and number == 0
        error = {"what": "interrupted"} if hit else {"what": "not run", "why": why}
        missing.append(
            NotebookResult(path.stem, _title(path), False, 0.0, error=error, skipped=not hit)
        )
    return missing


def new_label() -> str:
    """Return a run label that no other run has."""
    return f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def new_folder(output: Path) -> Path:
    """Name a fresh folder under ``output`` by the UTC time."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 100))]
    return next(output / name for name in names if not os.path.exists(output / name))


def _execute(path: Path, run: CourseRun, settings: Settings) -> NotebookResult:
    executed = run.folder / path.name
    started = time.monotonic()
    error: dict[str, str] | None = None
    try:
        _check_declared(path)
        papermill.execute_notebook(
            str(path),
            str(executed),
            kernel_name="python3",
            cwd=str(path.parent),
            progress_bar=False,
            log_output=False,
            kernel_manager_class=_LocalKernel,
            execution_timeout=_cell_limit(settings),
        )
    except PapermillExecutionError as failed:
        error = failures.of_a_cell(executed, failed)
    except Exception as failed:
        # A kernel or a disk may fail too: the run is still torn down and reported.
        ours = isinstance(failed, QwenkitError)
        what = f"{type(failed).__name__}: {str(failed).strip().partition(chr(10))[0]}"
        error = failures.words(str(failed) if ours else what)
    seconds = round(time.monotonic() - started, 1)
    recorded: dict[str, Any] = {"result": {}, "waited": {}}
    if error is None:
        error = failures.hidden(executed)
    if error is None:
        try:
            recorded = read_record(executed)
        except NotFound as missing:
            error = failures.words(str(missing))
    return NotebookResult(
        path.stem,
        _title(path),
        error is None,
        seconds,
        recorded["waited"],
        scrubbed(recorded["result"]),
        scrubbed(error),
    )


def _cell_limit(settings: Settings) -> int:
    """Return the seconds that one cell may take: more than all the waits within a cell."""
    waits = max(settings.seconds(step) for step in ("ready", "scale", "teardown"))
    longest = 5 * waits + settings.timeout_s + settings.load_seconds + 120
    return int(min(max(longest, settings.seconds("upload")), threading.TIMEOUT_MAX))


def _check_declared(path: Path) -> None:
    """Refuse a notebook that declares parameters that no setting has.

    Raises:
        SettingsError: names them.
    """
    undefined = set(papermill.inspect_notebook(str(path))) - set(Settings.model_fields)
    if undefined:
        raise SettingsError(path.name, sorted(undefined), "declares parameters that no setting has")


def _title(path: Path) -> str:
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
        ended = remove_and_audit(
            lambda: Cluster.connect(settings),
            settings,
            open_weights=lambda: Weights.of(settings),
            manner=Manner(on_change=lambda change: on_event(f"teardown: {change}")),
        )
    except Exception as error:
        on_event(scrub(f"teardown: FAILED: {error}"))
        return None, None, (f"teardown: {_words(error)}",)
    problems = [f"leaked: {leak}" for leak in ended.leaks.found]
    if ended.error is not None:
        on_event(f"teardown: FAILED: {ended.error}")
        problems.insert(0, f"teardown: {_words(ended.error)}")
    on_event("teardown:")
    for line in str(ended.removed).splitlines():
        on_event(f"  {line}")
    on_event(f"leak audit: {ended.leaks}")
    return ended.removed, ended.leaks, tuple(problems)


def _words(error: BaseException) -> str:
    return scrub(getattr(error, "what", None) or repr(error))


def _keep_evidence(settings: Settings, folder: Path, on_event: Callable[[str], None]) -> None:
    """Write what explains a failure; never raises."""
    try:
        kept = evidence(settings, folder)
    except Exception as error:
        on_event(scrub(f"no evidence was kept: {error}"))
    else:
        on_event(f"{kept.explanation.cause}; evidence: {folder}")


def _secrets_in(folder: Path) -> tuple[str, ...]:
    """Replace the secrets in the files under ``folder``, and name the files; there must be none."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and holds_secret(data := path.read_bytes()):
            path.write_text(scrub(data.decode("utf-8", "replace")), "utf-8")
            found.append(f"a secret was in {path.relative_to(folder)}; it is replaced by {HIDDEN}")
    return tuple(found)
