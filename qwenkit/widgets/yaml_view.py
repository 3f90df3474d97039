"""Show rendered documents in a notebook as YAML, comments kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwenkit.manifests.render import to_yaml


class YamlView:
    """YAML that JupyterLab and reports colour, and that can be copied as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/plain": self.text, "text/markdown": f"```yaml\n{self.text}```"}


def show(docs: Sequence[Any]) -> YamlView:
    """Show rendered documents."""
    return YamlView(to_yaml(list(docs)))
