"""Take the README's pictures anew: chapters 05 and 06 in a real JupyterLab, light and dark.

``make screenshots`` runs this. It starts a sandbox of its own, and needs Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "browser"), str(ROOT / "tools")]

import lab  # noqa: E402
import reading  # noqa: E402

from qwenkit.sandbox import process, state_files  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
# What is taken of which chapter: the cell's id, and the file's name.
TAKEN = {
    "05-autoscaling": {"panel": "panel"},
    "06-load-test": {"chart": "load"},
}
_OUTPUT = """name => {
  const cells = jupyterapp.shell.currentWidget.content.widgets
  const cell = cells.find(each => each.model.id === name)
  cell.node.querySelector('.jp-OutputArea-output').setAttribute('data-picture', name)
}"""
HURRIED = {"QWENKIT_STABLE_WINDOW": "10s"}


def main() -> int:
    """Write the pictures; 0 if all chapters ran."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        root, folder = Path(place) / "root", Path(place) / "notebooks"
        shutil.copytree(ROOT / "notebooks", folder)
        process.up(root, state_files.SandboxOptions(time_scale=10))
        try:
            environment = os.environ | process.environment(root) | HURRIED
            target = f"oss://{environment['OSS_BUCKET']}/Qwen-7B-Chat-Int8"
            source = "modelscope:qwen/Qwen-7B-Chat-Int8"
            for words in (("upload", source, target), ("deploy",)):
                command = [sys.executable, "-m", "qwenkit", *words]
                subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            with lab.jupyterlab(folder, environment) as address, lab.chromium(1440, 1400) as page:
                for name in TAKEN:
                    with reading.run(page, address, name) as chapter:
                        _take(chapter, TAKEN[name])
        finally:
            process.down(root)
    return 0


def _take(chapter: reading.Chapter, taken: dict[str, str]) -> None:
    for cell in taken:
        chapter.page.evaluate(_OUTPUT, cell)
    for dark in (False, True):
        lab.set_theme(chapter.page, dark=dark)
        for cell, name in taken.items():
            path = PICTURES / f"{name}-{'dark' if dark else 'light'}.png"
            chapter.page.locator(f"[data-picture='{cell}']").screenshot(path=path)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    sys.exit(main())
