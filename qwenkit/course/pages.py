"""An executed notebook as one HTML page that loads nothing, in the reader's colour scheme."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

_BACK = '<p><a href="index.html" style="color: var(--jp-content-link-color)">← the run</a></p>'


def write_page(executed: Path) -> None:
    """Write ``<name>.html`` beside an executed notebook; without a whole notebook, nothing."""
    try:
        notebook = nbformat.read(executed, as_version=4)
    except (OSError, ValueError):  # it never ran, or the disk was full
        return
    exporter = HTMLExporter(template_name="lab")
    # The page loads nothing: the course has no formulas, and panels include a static picture.
    exporter.mathjax_url = exporter.require_js_url = exporter.jquery_url = ""
    exporter.widget_renderer_url = exporter.jupyter_widgets_base_url = ""
    notebook.metadata.pop("widgets", None)
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": executed.stem}})
    # The exporter knows one scheme. On paper it is the light one, which is what there is without.
    themes = [Path(each) / "static" / "theme-dark.css" for each in exporter.template_paths]
    theme = next((path.read_text("utf-8") for path in themes if path.is_file()), "")
    dark = f"@media screen and (prefers-color-scheme: dark) {{{theme}}}"
    style = f"<style>:root{{color-scheme:light dark}}{dark}</style>"
    body = body.replace("</head>", f"{style}</head>", 1)
    body = body.replace("<main>", f"<main>{_BACK}", 1)
    executed.with_suffix(".html").write_text(_offline(body), "utf-8")


def _offline(body: str) -> str:
    """Drop the script tags that the exporter's template would still load from a CDN."""
    return re.sub(r'<script[^>]+src="(https?:)?//[^"]*"[^>]*>\s*</script>', "", body)
