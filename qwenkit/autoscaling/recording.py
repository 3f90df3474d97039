"""Read recordings, and run the commands that compare this model with them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidValue, NotFound, QwenkitError
from qwenkit.untrusted.files import read_file, unzipped
from qwenkit.untrusted.parsing import parse_json

_MOST_BYTES = 2**25


def read_recording(path: Path) -> Any:
    """Read JSON, optionally gzipped.

    Raises:
        NotFound: there is no such file.
        InvalidValue: it is not JSON.
    """
    try:
        return parse_json(unzipped(read_file(path, most=_MOST_BYTES), most=_MOST_BYTES))
    except OSError as error:
        raise NotFound(
            f"{path} cannot be read", str(error), "name a recording that this user may read"
        ) from error
    except ValueError as error:
        raise InvalidValue("recording", str(path), f"JSON, gzipped or not: {error}") from error


def tell_equal(what: str, compared: Iterable[list[str]]) -> int:
    """Print the first difference and how many are equal; return the exit code.

    ``compared`` has for each of them the fields that differ.
    """
    total = equal = 0
    first: list[str] = []
    for differences in compared:
        total += 1
        equal += not differences
        first = first or differences
    for difference in first:
        print(difference)
    print(f"{what}: {equal}/{total} equal")
    return 0 if total == equal else 1


def run_on_recording(
    module: str, compare: Callable[[Path], int], arguments: Sequence[str] | None
) -> int:
    """Call ``compare`` with the file that the command line names; return the exit code.

    It is 2 for a file that cannot be used, with the reason on stderr.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("file", type=Path, help="recording, .json or .json.gz")
    path = parser.parse_args(arguments).file
    try:
        return compare(path)
    except QwenkitError as error:
        print(error, file=sys.stderr)
        return 2
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        print(f"{path} is not such a recording: {error!r}"[:400], file=sys.stderr)
        return 2
