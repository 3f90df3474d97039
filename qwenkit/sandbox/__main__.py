"""The sandbox's process, which detaches itself.

python -m qwenkit.sandbox ROOT OPTIONS-JSON BEGAN
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from qwenkit.errors import QwenkitError
from qwenkit.sandbox.process import Options, serve


def main() -> int:
    """Start the sandbox; return when it has its lock, or cannot."""
    root, options = Path(sys.argv[1]), Options(**json.loads(sys.argv[2]))
    began = float(sys.argv[3])
    try:
        serve(root, options, began=began, detach=True)
    except QwenkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
