"""``python -m qwenkit``: the same as the ``qwenkit`` command."""

import sys

from qwenkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
