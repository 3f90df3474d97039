"""The rules that every notebook keeps, checked without running it."""

from __future__ import annotations

import ast
import itertools
import json
import re
from pathlib import Path

import observe
import papermill
import pytest

from qwenkit.parameters.reading import read_mapping
from qwenkit.settings import Settings

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]-*.ipynb"))
PAGES = sorted([*FOLDER.rglob("*.ipynb"), *FOLDER.rglob("*.md")])
PAGES = [path for path in PAGES if path.parent.name != ".ipynb_checkpoints"]  # JupyterLab's own
# Each runner knows only its own tags: nbval checks an output with one, skips a cell with another.
ALLOWED_TAGS = {"parameters", "nbval-check-output", "nbval-ignore-output", "solution", "needs-gpu"}
SKIPS = {"nbval-skip", "skip-execution"}  # always together: a cell for a person alone
LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
SECRET = re.compile(r"LTAI[0-9A-Za-z]{12,}|PRIVATE KEY")
TYPES = {"str": str, "int": int, "float": float, "bool": bool}


def load(path):
    return json.loads(path.read_text("utf-8"))


def text(cell):
    return "".join(cell["source"])


def code(path):
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == "code"]


each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_course_is_complete():
    assert [path.stem for path in NOTEBOOKS] == [
        "00-preflight",
        "01-model-to-oss",
        "02-storage",
        "03-deploy",
        "04-query",
        "05-autoscaling",
        "06-load-test",
        "07-rollout",
        "80-instructor",
        "90-teardown",
    ]


@each
def test_format_ids_kernel_and_no_outputs(path):
    notebook = load(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "widgets" not in notebook["metadata"]
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) for name in ids)
    for cell in code(path):
        assert cell["outputs"] == [], cell["id"]
        assert cell["execution_count"] is None, cell["id"]


@each
def test_first_cell_says_what_the_learner_ends_with(path):
    first = text(load(path)["cells"][0])
    assert first.startswith("# ")
    assert first.count("\n# ") == 0
    assert "You end with" in first
    assert "| Needs | Time | Cost |" in first


@each
def test_navigation_is_current(path):
    learners = [one for one in NOTEBOOKS if one.stem != "80-instructor"]
    index = learners.index(path) if path in learners else None
    last = text(load(path)["cells"][0]).splitlines()[-1]
    expected = ["[contents](README.md)"]
    if index:
        before = learners[index - 1].stem
        expected.insert(0, f"[← {before}]({before}.ipynb)")
    if index is not None and index + 1 < len(learners):
        after = learners[index + 1].stem
        expected.append(f"[{after} →]({after}.ipynb)")
    assert last == " · ".join(expected)


@each
def test_one_typed_literal_parameters_cell(path):
    tagged = [cell for cell in code(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert tagged == code(path)[:1]
    assert tagged[0]["id"] == "parameters"
    for line in text(tagged[0]).splitlines():
        match = re.fullmatch(r"(\w+): (str|int|float|bool) = ([^=#]+?)  # (.+)", line)
        assert match, line
        name, kind, literal, _ = match.groups()
        assert type(ast.literal_eval(literal)) is TYPES[kind], line
        assert name in Settings.model_fields, f"{name} is no setting"


@each
def test_papermill_sees_every_parameter_with_its_type(path):
    declared = re.findall(r"^(\w+):", text(code(path)[0]), re.MULTILINE)
    seen = papermill.inspect_notebook(str(path))
    assert list(seen) == declared
    for name, parameter in seen.items():
        assert parameter["inferred_type_name"] in TYPES, name
        assert parameter["help"], name


@each
def test_parameter_defaults_are_the_settings_defaults(path):
    for line in text(code(path)[0]).splitlines():
        name, literal = re.match(r"(\w+): \w+ = ([^#]+?)  #", line).groups()
        default = Settings.model_fields[name].default
        if default is not None:
            assert ast.literal_eval(literal) == default, name


@each
def test_settings_are_taken_in_one_line_and_no_variable_hides_one(path):
    declared = set(re.findall(r"^(\w+):", text(code(path)[0]), re.MULTILINE))
    trees = [ast.parse(text(cell)) for cell in code(path)[1:]]
    lines = [ast.unparse(line) for tree in trees for line in tree.body]
    assert lines.count("s = Settings.of(globals())") == 1
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)]
    assigned = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    # Run again, the line above would take such a variable for a parameter.
    assert assigned & set(Settings.model_fields) <= declared


@each
def test_everything_of_ours_comes_from_the_front_room_in_one_import(path):
    imports = [
        node
        for cell in code(path)
        for node in ast.walk(ast.parse(text(cell)))
        if isinstance(node, ast.Import | ast.ImportFrom) and "qwenkit" in ast.unparse(node)
    ]
    assert [node.module for node in imports] == ["qwenkit"]


@each
def test_cells_are_short_and_do_no_shell(path):
    for cell in code(path):
        source = text(cell)
        assert len(source.splitlines()) <= 20, cell["id"]
        assert not re.search(r"^\s*[!%]|\binput\(|sys\.exit", source, re.MULTILINE), cell["id"]
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.ClassDef), cell["id"]
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 5, cell["id"]


@each
def test_a_sentence_stands_before_every_code_cell(path):
    cells = load(path)["cells"]
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code" and cell["id"] != "parameters":
            assert before["cell_type"] == "markdown", cell["id"]


@each
def test_the_last_code_cell_records_a_result(path):
    last = ast.parse(text(code(path)[-1])).body[-1]
    assert isinstance(last, ast.Expr)
    assert getattr(last.value.func, "id", "") == "record"


@each
def test_only_known_tags_and_no_secrets(path):
    for cell in load(path)["cells"]:
        tags = set(cell["metadata"].get("tags", []))
        assert tags - SKIPS <= ALLOWED_TAGS, cell["id"]
        assert tags & SKIPS in (set(), SKIPS), cell["id"]
    assert not SECRET.search(path.read_text("utf-8"))


def prose(path):
    """Return the text of a page or of a notebook's markdown, without blocks of code."""
    if path.suffix == ".md":
        texts = [path.read_text("utf-8")]
    else:
        texts = [text(cell) for cell in load(path)["cells"] if cell["cell_type"] == "markdown"]
    return re.sub(r"^```.*?^```$", "", "\n\n".join(texts), flags=re.MULTILINE | re.DOTALL)


def anchors(path):
    """Return the names that a link to a page may end with, as GitHub and JupyterLab make them."""
    found = set(re.findall(r'<a id="([^"]+)">', prose(path)))
    for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        plain = re.sub(r"[`*]|<[^>]*>|\[|\]\([^)]*\)", "", heading).strip().lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_links_lead_somewhere_and_pictures_say_what_they_show(path):
    for alternative, target in PICTURE.findall(prose(path)):
        assert (path.parent / target).is_file(), target
        assert len(alternative) > 10, f"{target} needs an alternative text"
    for target in LINK.findall(prose(path)):
        file, _, anchor = target.partition("#")
        if re.match(r"https?:", target):
            continue
        page = path.parent / file if file else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


@each
def test_observe_cells_follow_the_cell_that_they_describe(path):
    seen = []
    for cell in load(path)["cells"]:
        name = cell["id"].removeprefix(observe.OBSERVE)
        if name != cell["id"]:
            assert cell["cell_type"] == "markdown", cell["id"]
            assert name in seen, f"{cell['id']}: no code cell {name} stands before it"
            assert observe.expected(cell)
        elif cell["cell_type"] == "code":
            seen.append(name)


def test_the_index_lists_every_notebook_with_its_title():
    index = (FOLDER / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (.+?) \| (\d+) min \|", index, re.MULTILINE)
    expected = []
    for path in NOTEBOOKS:
        title = text(load(path)["cells"][0]).splitlines()[0].removeprefix("# ").split(" · ")[1]
        minutes = str(load(path)["metadata"]["qwenkit"]["minutes"])
        expected.append((path.stem, path.name, title, minutes))
    assert rows == expected


@pytest.mark.parametrize("path", sorted((FOLDER / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_params_files_hold_valid_settings(path):
    Settings(**read_mapping(path, Settings.model_fields))
