"""Draw ARCHITECTURE.svg: the rooms of qwenkit and the imports between them, from the code itself.

    python tools/architecture.py        writes ARCHITECTURE.svg; a test fails when it is out of date

Rows are the layers that import-linter holds (pyproject.toml). An arrow means "imports"; imports
inside functions count. Left out are arrows that follow from others, and those to ``COMMON`` rooms.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "ARCHITECTURE.svg"
WIDTH, HEIGHT, GAP, ROW, MARGIN = 216, 96, 24, 144, 24
SANDBOX = "sandbox"
COMMON = {"language", "errors", "credentials", "loopback"}  # everybody uses these

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / "qwenkit").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def import_graph() -> Graph:
    """Return which module imports which, imports inside functions and type checks included.

    The front room (``qwenkit`` itself) is left out: it names every room and loads none.
    """
    known = modules()
    graph: Graph = {name: set() for name in known if name != "qwenkit"}
    for name in graph:
        for target in _imports(ast.parse(known[name].read_text("utf-8"))):
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target and target not in (name, "qwenkit"):
                graph[name].add(target)
    return graph


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms(graph: Graph) -> Graph:
    """Return which room imports which; a module at the top is a room of its own."""
    found: Graph = {}
    for name, targets in graph.items():
        room = name.split(".")[1]
        found.setdefault(room, set()).update(target.split(".")[1] for target in targets)
    return {room: targets - {room} for room, targets in found.items() if room != "__main__"}


def without_implied(graph: Graph) -> Graph:
    """Leave out arrows that two or more others lead to as well."""

    def reach(room: str, seen: set[str]) -> set[str]:
        for target in graph.get(room, ()):
            if target not in seen:
                seen.add(target)
                reach(target, seen)
        return seen

    return {
        room: {t for t in ts if not any(t in reach(other, set()) for other in ts - {t})}
        for room, ts in graph.items()
    }


def layers() -> list[list[str]]:
    """Return the rooms of each layer, from the contract that import-linter checks."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = (c for c in settings["tool"]["importlinter"]["contracts"] if "layers" in c)
    rows = [[part.strip().split(".")[1] for part in row.split(":")] for row in contract["layers"]]
    return [[room for room in row if room != "__main__"] for row in rows[1:]]


def draw() -> str:
    """Return the picture."""
    rows = layers()
    places = dict(_places(rows))
    width = max(x for x, _ in places.values()) + WIDTH + MARGIN
    height = len(rows) * ROW + MARGIN
    arrows = [
        _arrow(places[room], places[target])
        for room, targets in sorted(without_implied(rooms(import_graph())).items())
        for target in sorted(targets)
        if room in places and target in places and target not in COMMON
    ]
    boxes = [_box(room, place) for room, place in sorted(places.items())]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" role="img">'
        "<title>The rooms of qwenkit; an arrow means imports</title>"
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#6e7781"/></marker></defs>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    )
    return "\n".join([head, *arrows, *boxes, "</svg>"]) + "\n"


def _places(rows: list[list[str]]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield where each room stands; the sandbox stands beside the layers."""
    widest = max(map(len, rows))
    for number, row in enumerate(rows):
        start = MARGIN + (widest - len(row)) * (WIDTH + GAP) // 2
        if len(row) == 1:  # stand aside, so that arrows to the rows below pass
            start += (number % 2 * 2 - 1) * (WIDTH + GAP) // 2
        for column, room in enumerate(row):
            yield room, (start + column * (WIDTH + GAP), MARGIN + number * ROW)
    yield SANDBOX, (MARGIN + widest * (WIDTH + GAP), MARGIN + 3 * ROW)


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + WIDTH // 2, start[1] + HEIGHT
    x2, y2 = end[0] + WIDTH // 2, end[1] - 2
    if y2 < y1:  # a neighbour in the same row
        y1 = y2 = start[1] + HEIGHT // 2
        right = end[0] > start[0]
        x1, x2 = (start[0] + WIDTH, end[0] - 2) if right else (start[0], end[0] + WIDTH + 2)
        path = f"M{x1} {y1}L{x2} {y2}"
    else:
        middle = (y1 + y2) // 2
        path = f"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}"
    return f'<path d="{path}" fill="none" stroke="#6e7781" marker-end="url(#end)"/>'


def _box(room: str, place: tuple[int, int]) -> str:
    x, y = place
    colour = "#fff8c5" if room == SANDBOX else "#ddf4ff"
    lines = textwrap.wrap(_sentence(room), 30)[:4]
    text = "".join(
        f'<text x="{x + 10}" y="{y + 40 + 14 * n}" font-size="11" fill="#24292f">{escape(line)}'
        "</text>"
        for n, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{colour}" '
        f'stroke="#57606a"/><text x="{x + 10}" y="{y + 21}" font-size="14" font-weight="600" '
        f'fill="#24292f">{room}</text>{text}'
    )


def _sentence(room: str) -> str:
    """Return the first line of a room's docstring."""
    found: Mapping[str, Path] = modules()
    docstring = ast.get_docstring(ast.parse(found[f"qwenkit.{room}"].read_text("utf-8"))) or ""
    return docstring.splitlines()[0]


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
    print(f"wrote {PICTURE.name}")
