"""The program of a sandbox in the background.

python -m qwenkit.sandbox ROOT OPTIONS-JSON BEGAN MODE ID
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qwenkit.errors import QwenkitError
from qwenkit.sandbox.daemon import STAYS, serve_detached
from qwenkit.sandbox.state_files import SandboxOptions


def main() -> int:
    """Start the sandbox; return when it has its lock, or cannot start."""
    root, options = Path(sys.argv[1]), SandboxOptions(**json.loads(sys.argv[2]))
    try:
        mode, known = sys.argv[4:] or (STAYS, "")
        return serve_detached(root, options, began=float(sys.argv[3]), mode=mode, known=known)
    except QwenkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
