"""What GitHub, pre-commit and citation managers read is valid, and names only what is there."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pins
import pytest
import yaml
from jsonschema import Draft7Validator
from places import ROOT
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

import qwenkit

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
HOOKS = ROOT / ".pre-commit-config.yaml"


# Modules that 3.12, 3.13 and 3.14 removed.
GONE = {
    *("asynchat", "asyncore", "distutils", "imp", "smtpd"),
    *(
        "aifc",
        "audioop",
        "cgi",
        "cgitb",
        "chunk",
        "crypt",
        "imghdr",
        "lib2to3",
        "mailcap",
        "msilib",
    ),
    *("nis", "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu"),
    "xdrlib",
}


def read(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), yaml.BaseLoader)  # "on" and 1.2.0 are text


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            for step in job["steps"]:
                yield f"{path.stem}/{name}", step


def stored(uri: str) -> Resource[Any]:
    name = uri.rpartition("/")[2].removesuffix(".json")
    packed = (ROOT / f"tests/data/schemas/{name}.json.gz").read_bytes()
    return DRAFT7.create_resource(json.loads(gzip.decompress(packed)))


RUNS = [(where, step["run"]) for where, step in steps() if "run" in step]


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        *(("github-workflow", path) for path in WORKFLOWS),
        *(("github-issue-forms", path) for path in FORMS),
        ("dependabot-2.0", ROOT / ".github/dependabot.yml"),
        ("pre-commit-config", HOOKS),
        ("citation", ROOT / "CITATION.cff"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_files_for_other_programs_follow_their_schemas(schema: str, path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    if True in content:
        content["on"] = content.pop(True)  # YAML 1.1 reads a workflow's "on" as a truth
    judge = Draft7Validator(stored(schema).contents, registry=Registry(retrieve=stored))
    errors = judge.iter_errors(content)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_a_step_calls_a_make_target_or_a_script_that_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    called = {(where, word) for where, line in RUNS for word in re.findall(r"make ([a-z-]+)", line)}
    assert [each for each in called if each[1] not in targets] == []
    for _, line in RUNS:
        for script in re.findall(r"\btools/\S+", line):
            assert (ROOT / script).stat().st_mode & 0o111, script
    assert {word for _, word in called} >= {"test", "course", "quick", "static", "kind", "test-all"}


def test_every_action_is_pinned_and_names_its_version() -> None:
    used = [pin for pin in pins.pins() if pin.where.startswith(".github/workflows/")]
    assert len(used) == len([step for _, step in steps() if "uses" in step])
    assert [pin for pin in used if pin.why] == []
    for path in WORKFLOWS:
        for line in path.read_text("utf-8").splitlines():
            assert "uses:" not in line or re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_no_workflow_gets_more_rights_than_it_needs() -> None:
    assert len(WORKFLOWS) <= 4
    for path in WORKFLOWS:
        wanted = "write" if path.stem == "release" else "read"
        assert read(path)["permissions"] == {"contents": wanted}
    for _, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": "false"}


def test_reports_are_kept_whether_or_not_the_course_passed() -> None:
    uploads = [each for each in steps() if "upload-artifact" in each[1].get("uses", "")]
    kept = {where: step for where, step in uploads if where != "ci/site"}
    assert set(kept) == {"ci/course", "ci/macos", "kind/course"}
    for step in kept.values():
        assert (step["if"], step["with"]["path"]) == ("always()", "runs/")
    logs = [step for _, step in steps() if "logs.sh" in step.get("run", "")]
    assert [step["if"] for step in logs] == ["always()"]


def test_the_pythons_are_those_that_the_project_takes() -> None:
    matrix = read(ROOT / ".github/workflows/ci.yaml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix == {"python": ["3.11", "3.12", "3.13", "3.14"]}
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_no_module_is_imported_that_a_newer_python_has_removed() -> None:
    # What the oldest one cannot read, and a finally that is left (3.14 warns of it), ruff finds.
    ours = [f"{folder}/*.py" for folder in ("qwenkit", "tests", "tools", "benchmarks")]
    command = ["git", "grep", "-nwE", rf"^ *(import|from) ({'|'.join(GONE)})", "--", *ours]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")


def test_hooks_use_the_tools_of_the_lock_and_only_those_asked_for_change_files() -> None:
    (repo,) = read(HOOKS)["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        words = hook["entry"].split()
        assert words[0].startswith(".venv/bin/")
        assert [w for w in words[1:] if w.startswith("tools/") and not (ROOT / w).is_file()] == []
        changes = not {"--check", "--verify", "catalogue"} & {*words, hook["id"]}
        if hook["id"] == "ruff":
            changes = "--fix" in words
        assert changes == (hook.get("stages") == ["manual"]), hook["id"]


def test_issues_ask_for_the_evidence() -> None:
    for path in FORMS:
        asked = {part["id"]: part for part in read(path)["body"] if "id" in part}
        assert "qwenkit evidence" in asked["evidence"]["attributes"]["label"], path
    assert read(FORMS[0])["name"] == "Something went wrong"


def test_the_citation_names_this_version() -> None:
    assert read(ROOT / "CITATION.cff")["version"] == qwenkit.__version__


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_same_commit_gives_the_same_wheel_and_sdist(tmp_path: Path) -> None:
    built = []
    for name, mask, zone in (("a", 0o022, "UTC"), ("b/deeper", 0o077, "Asia/Shanghai")):
        copy = tmp_path / name
        command = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(copy)]
        subprocess.run(command, check=True, umask=mask)
        made = ["make", "dist", f"PYTHON={sys.executable}"]
        there = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TZ": zone, "HOME": str(Path.home())}
        subprocess.run(made, cwd=copy, check=True, umask=mask, env=there, capture_output=True)
        built.append({path.name: path.read_bytes() for path in (copy / "dist").iterdir()})
    names = [f"qwenkit-{qwenkit.__version__}{end}" for end in ("-py3-none-any.whl", ".tar.gz")]
    assert sorted(built[0]) == sorted([*names, "SHA256SUMS"])
    assert [name for name in built[0] if built[0][name] != built[1][name]] == []
    sums = dict(reversed(line.split()) for line in built[0]["SHA256SUMS"].decode().splitlines())
    assert sums == {name: sha256(built[0][name]).hexdigest() for name in names}
