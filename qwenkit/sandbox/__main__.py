"""The sandbox's process: ``python -m qwenkit.sandbox ROOT OPTIONS-JSON``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from qwenkit.errors import QwenkitError
from qwenkit.sandbox.process import Options
from qwenkit.sandbox.world import run


def main() -> int:
    """Run until SIGTERM or Ctrl-C."""
    root, options = Path(sys.argv[1]), Options(**json.loads(sys.argv[2]))
    try:
        asyncio.run(run(root, options))
    except QwenkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
