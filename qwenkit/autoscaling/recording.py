"""Read recordings, and run the commands that compare this model with them."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidValue, NotFound, QwenkitError


def read_recording(path: Path) -> Any:
    """Read JSON, optionally gzipped.

    Raises:
        NotFound: there is no such file.
        InvalidValue: it is not JSON.
    """
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except OSError as error:
        raise NotFound(f"{path} cannot be read", str(error)) from error
    except (ValueError, EOFError) as error:
        raise InvalidValue("recording", str(path), f"JSON, gzipped or not: {error}") from error


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
    except (KeyError, TypeError, ValueError) as error:
        print(f"{path} is not such a recording: {error!r}", file=sys.stderr)
        return 2
