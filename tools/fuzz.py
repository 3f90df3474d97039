"""Send mutated manifests, params files and requests: no crash, no 500, no hang, bounded memory.

    .venv/bin/python tools/fuzz.py                            everything: about 20 minutes
    .venv/bin/python tools/fuzz.py --only manifests,oss --scale 0.1 --seed 7 --json

The table says for each part how many cases ran, what was found, the slowest case and the peak
memory of its process beside the bound. Exit 1 if anything was found; the smallest case that
shows it is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fuzz_http
import fuzz_sources as sources
from fuzz_mutations import Mutator, smallest

from qwenkit import Settings, lint, render
from qwenkit.admission.review import review
from qwenkit.autoscaling import replay
from qwenkit.capacity import compare_run
from qwenkit.cluster.api.connect import connection
from qwenkit.errors import QwenkitError
from qwenkit.manifests.documents import unreadable
from qwenkit.manifests.template import plain, to_yaml

CASE_S = 5.0
_MOST_FINDINGS = 20


@dataclass
class Part:
    """What one part of the run found. Memory in MiB, times in seconds."""

    name: str
    cases: int = 0
    findings: list[dict[str, str]] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mib: float = 0.0
    bound_mib: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing was found and the memory stayed within its bound."""
        return not self.findings and self.peak_mib <= self.bound_mib


class Hang(BaseException):
    """A case took too much CPU time."""


@contextlib.contextmanager
def limited(seconds: float = CASE_S) -> Iterator[None]:
    """Raise ``Hang`` after that much CPU time."""

    def late(*_: object) -> None:
        raise Hang(f"more than {seconds} s of CPU time")

    signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def problem(call: Callable[[Any], object], case: Any) -> str:
    """Return how ``call`` fails with a case: the error and its last line; "" if it does not."""
    try:
        with limited():
            call(case)
    except QwenkitError as error:
        try:
            json.dumps(error.to_dict(), default=str)
            str(error).encode("utf-8", "backslashreplace")
        except Exception as failed:
            return f"the error's own text: {failed!r}"
    except (Exception, Hang) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "/qwenkit/" in f.filename]
        last = ours[-1] if ours else where
        place = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__} at {place}: {str(error)[:200]}"
    return ""


def try_all(
    part: Part, cases: Iterator[Any], call: Callable[[Any], object], bound_mib: float
) -> Part:
    """Call with every case; keep the first case of each problem, made small."""
    seen: set[str] = set()
    for case in cases:
        began = time.process_time()
        found = problem(call, case)
        part.cases += 1
        part.slowest_s = max(part.slowest_s, time.process_time() - began)
        kind = found.partition(": ")[0]
        if found and kind not in seen and len(seen) < _MOST_FINDINGS:
            seen.add(kind)
            least = smallest(case, lambda one, kind=kind: problem(call, one).startswith(kind))
            part.findings.append({"problem": found, "case": sources.shown(least)})
    part.peak_mib = _peak_mib()
    part.bound_mib = bound_mib
    return part


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


# --- the parts


def manifests(count: int, seed: int) -> Part:
    """Lint mutated documents, as a cluster would judge them too."""
    families = sources.document_families()

    def cases() -> Iterator[Any]:
        for number in range(count):
            mutator = Mutator((seed, "manifests", number))
            yield mutator.value(mutator.one_of(families))

    def call(documents: Any) -> None:
        documents = documents if isinstance(documents, list) else [documents]
        for gpu in (None, "V100-16"):
            for finding in lint(documents, gpu=gpu):
                str(finding)
        for document in documents:
            if isinstance(document, dict) and not unreadable(document):
                with contextlib.suppress(QwenkitError):
                    review(plain(document))
                    review(plain(document), old=families[0][3])

    return try_all(Part("manifests"), cases(), call, 400)


def settings(count: int, seed: int) -> Part:
    """Render mutated settings."""
    names = sorted(Settings.model_fields)
    base = {name: getattr(Settings(), name) for name in names}

    def cases() -> Iterator[Any]:
        for number in range(count):
            mutator = Mutator((seed, "settings", number))
            yield {
                name: mutator.odd() if mutator.chance(0.7) else mutator.text(str(base[name]))
                for name in mutator.random.sample(names, mutator.random.randint(1, 3))
            }

    def call(values: Any) -> None:
        made = Settings(**values)
        documents = render(made)
        to_yaml(documents).encode()
        lint(documents, gpu=made.gpu)

    return try_all(Part("settings"), cases(), call, 400)


def params(count: int, seed: int) -> Part:
    """Load mutated params files, QWENKIT_PARAMETERS and kubeconfigs."""
    texts = sources.params_texts()
    folder = Path(tempfile.mkdtemp())
    path, kubeconfig = folder / "params.yaml", folder / "kubeconfig"

    def cases() -> Iterator[Any]:
        for number in range(count):
            mutator = Mutator((seed, "params", number))
            yield [
                mutator.text(mutator.one_of(texts)),
                mutator.one_of(("params", "env", "kubeconfig")),
            ]

    def call(case: Any) -> None:
        text, how = case if isinstance(case, list) and len(case) == 2 else ("", "params")
        content = str(text).encode("utf-8", "surrogatepass")
        if how == "params":
            path.write_bytes(content)
            made = Settings.load(path)
            to_yaml(render(made)).encode()
        elif how == "env":
            with sources.environment(QWENKIT_PARAMETERS=str(text)):
                Settings()
        else:
            kubeconfig.write_bytes(content)
            with sources.environment(KUBECONFIG=str(kubeconfig)):
                connection("sandbox").close()

    return try_all(Part("params"), cases(), call, 400)


def recordings(count: int, seed: int) -> Part:
    """Replay mutated recordings."""
    found = sources.recordings()
    path = Path(tempfile.mkdtemp()) / "recording.json"
    commands = {"replay": replay.main, "compare_run": compare_run.main}

    def cases() -> Iterator[Any]:
        for number in range(count):
            mutator = Mutator((seed, "recordings", number))
            name = mutator.one_of(sorted(found))
            yield [name, mutator.value(found[name])]

    def call(case: Any) -> None:
        if not isinstance(case, list) or len(case) != 2 or case[0] not in commands:
            return
        if unreadable(case[1]):
            return  # no JSON
        path.write_text(json.dumps(case[1], default=str), "utf-8")
        with (
            contextlib.redirect_stdout(sources.Nowhere()),
            contextlib.redirect_stderr(sources.Nowhere()),
        ):
            code = commands[case[0]]([str(path)])
        if code not in (0, 1, 2):
            raise AssertionError(f"exit code {code}")

    return try_all(Part("recordings"), cases(), call, 600)


PARTS: dict[str, tuple[Callable[[int, int], Part], int]] = {
    "manifests": (manifests, 10_000),
    "settings": (settings, 3_000),
    "params": (params, 1_500),
    "recordings": (recordings, 400),
    "api": (fuzz_http.api, 10_000),
    "oss": (fuzz_http.oss, 3_000),
    "hub": (fuzz_http.hub, 1_000),
    "gateway": (fuzz_http.gateway, 500),
    "faults": (fuzz_http.faults, 500),
}


def _run(name: str, count: int, seed: int, answers: Any) -> None:
    part = PARTS[name][0](count, seed)
    answers.put({**asdict(part if isinstance(part, Part) else Part(name, **part))})


def in_a_child(name: str, count: int, seed: int) -> Part:
    """Run a part in a process of its own, so that its memory is its own."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_run, args=(name, count, seed, answers))
    child.start()
    while child.is_alive() and answers.empty():
        time.sleep(0.1)
    crashed = Part(name, findings=[{"problem": "the process ended", "case": ""}])
    part = crashed if answers.empty() else Part(**answers.get())
    child.join()
    return part


def main() -> int:
    """Run the parts; print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual counts")
    parser.add_argument("--count", type=int, help="cases of each part, instead of a share")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--only: {unknown[0]} is none of {', '.join(PARTS)}")
    done = []
    for name in names:
        count = options.count or max(1, int(PARTS[name][1] * options.scale))
        done.append(in_a_child(name, count, options.seed))
        if not options.as_json:
            _show(done[-1])
    if options.as_json:
        parts = [asdict(part) | {"passed": part.passed} for part in done]
        print(json.dumps({"seed": options.seed, "parts": parts}, ensure_ascii=True))
    return 0 if all(part.passed for part in done) else 1


def _show(part: Part) -> None:
    verdict = "passed" if part.passed else "FAILED"
    memory = f"{part.peak_mib:.0f} of {part.bound_mib:.0f} MiB"
    print(
        f"{verdict}  {part.name:<11}{part.cases:>7} cases  {len(part.findings):>3} findings  "
        f"slowest {part.slowest_s:.2f} s  peak {memory}  {part.answers or ''}",
        flush=True,
    )
    for finding in part.findings:
        print(f"    {finding['problem']}\n        {finding['case'][:600]}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
