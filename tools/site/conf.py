"""Sphinx's settings for the pages. Nothing is fetched from elsewhere when they are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

project = "qwenkit"
author = "qwenkit"
project_copyright = "Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
templates_path = [str(HERE / "templates")]
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]

highlight_language = "none"
nb_execution_mode = "off"  # they need a target; `make course` runs them
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # else scripts of other hosts
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # a cell may begin with any level

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "qwenkit"
html_favicon = "static/icon.svg"
html_show_sphinx = False
html_copy_source = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "language.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}


def add_links(app: Any, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Tell the templates the language, and the page in the other one, else its home page."""
    here = Path(app.srcdir)
    other = here.with_name({"en": "zh", "zh": "en"}[here.name])
    found = [name for name in (page, "index") if list(other.glob(f"{name}.*"))]
    context["other_page"] = found[0] if found else ""
    context["chinese"] = here.name == "zh"
    folder = "zh/lite" if context["chinese"] else "lite"
    context["in_browser"] = f"lite/lab/index.html?path={folder}/autoscaling.ipynb"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("html-page-context", add_links)
