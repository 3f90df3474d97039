"""How does a pod run a command of qwenkit? Really, in the transfer image only.

The image stands for the project itself: the program is the one that runs the sandbox. Whoever may
apply a YAML decides its arguments and its environment, so only what ``upload.py`` and ``load.py``
list reaches it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from qwenkit.errors import InvalidValue, QwenkitError
from qwenkit.sandbox.kubelet import child
from qwenkit.sandbox.kubelet.images import TRANSFER_IMAGE

LONGEST = 4096
_NOT_FOUND = 127
# Files are checkpoints; the pod's own limits are those of the Job's template.
_LIMITS = {"FSIZE": 64 * 2**20, "AS": 4 * 2**30}
_PACKAGE = Path(__file__).parents[3]
# An isolated Python has neither the working directory nor PYTHONPATH to find a source checkout.
_RUN = (
    "import os, sys; sys.argv.pop(0); root = os.path.dirname(sys.argv[0]); "
    "root in sys.path or sys.path.insert(0, root); "
    "from qwenkit.cli.main import main; sys.exit(main())"
)


@dataclass(frozen=True)
class OwnCommand:
    """Arguments and variables of a program.

    Where one is the ``real`` path of a volume, its lines show the path ``inside`` the container.
    """

    words: Sequence[str]
    env: Mapping[str, str]
    real: str = ""
    inside: str = ""

    def said(self, log: Callable[[str], None]) -> Callable[[str], None]:
        """Return ``log``, which gets the container's path."""
        real, inside = self.real, self.inside
        return (lambda line: log(line.replace(real, inside))) if real else log


async def run(
    prepare: Callable[[child.Programs, Path], Awaitable[OwnCommand]],
    *,
    image: str,
    programs: child.Programs | None,
    log: Callable[[str], None],
    waits: bool = True,
) -> int:
    """Run it with a private home; return its exit status, 2 for what a pod may not ask of it.

    Args:
        prepare: gets its home; returns what runs.
        image: the container's image.
        programs: where programs run; None if the node runs none.
        log: gets its lines.
        waits: whether it waits for its turn; what runs for ever must not take one.
    """
    if image != TRANSFER_IMAGE or programs is None:
        log('exec: "qwenkit": executable file not found in $PATH')
        log(f"sandbox: the node has qwenkit in the image {TRANSFER_IMAGE} only")
        return _NOT_FOUND
    async with programs.turn if waits else nullcontext():
        with programs.private() as home:
            try:
                found = await prepare(programs, home)
                argv = [sys.executable, "-I", "-c", _RUN, str(_PACKAGE), *found.words]
                whole = {**found.env, **child.environment(home)}
                async with child.running(
                    argv, env=whole, folder=home, log=found.said(log), limits=_LIMITS
                ) as process:
                    return await process.ended()
            except QwenkitError as error:
                # In the command's own form, which `--in-cluster` reads.
                log(json.dumps(error.to_dict(), ensure_ascii=False))
                return 2


def variables(env: Mapping[str, str], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield those of a container's variables that the program gets.

    Raises:
        InvalidValue: one is no short line of ASCII.
    """
    for name in names:
        if value := env.get(name, "").strip():
            if len(value) > LONGEST or not (value.isascii() and value.isprintable()):
                rule = f"must be printable ASCII of at most {LONGEST} characters"
                raise InvalidValue(name, "(not shown)", rule)
            yield name, value
