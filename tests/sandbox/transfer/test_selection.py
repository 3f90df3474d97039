"""--include and --exclude: what is taken, what another selection may do, what is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transfer_world import OPTIONS, World, world, write

from qwenkit.errors import Conflict, InvalidValue, Rejected
from qwenkit.sandbox.hub.server import HubServer
from qwenkit.weights.hub.listing import Listing, SourceFile
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.integrity import verify
from qwenkit.weights.oss.bucket import list_objects
from qwenkit.weights.report import UploadReport
from qwenkit.weights.selection import Selection
from qwenkit.weights.transfer import upload

FILES = {"config.json": b"{}", "README.md": b"#", "docs/a/b.md": b"##", "w.bin": b"1" * 5000}
SHARDS = {f"m-{n:05}-of-00002.safetensors": b"" for n in (1, 2)}
INDEX = json.dumps({"weight_map": {f"t{n}": name for n, name in enumerate(SHARDS)}}).encode()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


def send(
    place: World, source: object, *, replace: bool = False, **globs: tuple[str, ...]
) -> UploadReport:
    return upload(
        source,  # type: ignore[arg-type]
        place.bucket,
        "m",
        run="test",
        state_dir=place.state,
        options=OPTIONS,
        replace=replace,
        selection=Selection(**globs),
    )


def keys(place: World) -> set[str]:
    return {found.key.removeprefix("m/") for found in list_objects(place.bucket, "m/")}


def test_exclude_wins_and_the_manifest_says_so(place: World, tmp_path: Path) -> None:
    folder = str(write(tmp_path / "model", FILES))
    report = send(place, folder, include=("*.json", "*.md"), exclude=("docs/*",))
    assert keys(place) == {"config.json", "README.md", "qwenkit.json"}
    recorded = json.loads(place.stored("m/qwenkit.json"))["selection"]
    assert recorded == {"include": ["*.json", "*.md"], "exclude": ["docs/*"]}
    assert report.selection == "--include='*.json' --include='*.md' --exclude='docs/*'"
    assert verify(place.bucket, "m").selection == report.selection


@pytest.fixture
def hub(place: World, tmp_path: Path) -> object:
    write(tmp_path / "hub" / "o/n", FILES)
    url = place.servers.serve(HubServer(tmp_path / "hub").app())
    return open_source("modelscope:o/n", modelscope_endpoint=url)


def test_another_selection_of_the_same_revision_is_refused(place: World, hub: object) -> None:
    first = send(place, hub, exclude=("*.md",))
    before = place.stored("m/qwenkit.json")
    with pytest.raises(Conflict, match="another selection: 2 files") as wider:
        send(place, hub)
    assert "lacks 0 of them and adds 2" in wider.value.why
    with pytest.raises(Conflict, match="another selection"):
        send(place, hub, include=("*.json",))
    assert place.stored("m/qwenkit.json") == before
    assert keys(place) == {"config.json", "w.bin", "qwenkit.json"}
    wide = send(place, hub, replace=True)
    assert wide.revision == first.revision
    assert {f.key for f in wide.files if f.action == "skipped"} == {"m/config.json", "m/w.bin"}
    assert keys(place) == {*FILES, "qwenkit.json"}
    send(place, hub, include=("*.json",), replace=True)
    assert keys(place) == {"config.json", "qwenkit.json"}
    assert verify(place.bucket, "m").ok


def test_the_same_files_by_other_globs_are_the_same_upload(place: World, hub: object) -> None:
    send(place, hub, exclude=("*.md",))
    before = place.stored("m/qwenkit.json")
    again = send(place, hub, include=("*.json", "w.*"))
    assert again.bytes_sent == 0
    assert place.stored("m/qwenkit.json") == before


@pytest.mark.parametrize("exclude", [("*-00002-*",), ("*-00002-*", "*.index.json")])
def test_half_a_model_is_refused(place: World, tmp_path: Path, exclude: tuple[str, ...]) -> None:
    folder = write(tmp_path / "model", SHARDS | {"m.safetensors.index.json": INDEX})
    with pytest.raises(Rejected, match=r"m-00002-of-00002\.safetensors is missing") as caught:
        send(place, str(folder), exclude=exclude)
    assert "--exclude leave that file out" in caught.value.fix
    assert keys(place) == set()


def test_a_selection_that_selects_nothing_is_refused(place: World, tmp_path: Path) -> None:
    folder = str(write(tmp_path / "model", FILES))
    with pytest.raises(InvalidValue, match=r"x\*"):
        send(place, folder, include=("*", "x*"))
    with pytest.raises(InvalidValue, match="exclude"):
        send(place, folder, exclude=("*",))
    for glob in ("", "/config.json", "./config.json"):
        with pytest.raises(InvalidValue, match="exclude"):
            Selection(exclude=(glob,))


TEXT = st.text("ab/.*?[]", min_size=1, max_size=6).filter(lambda t: t[0] not in "/.")


@given(
    paths=st.sets(TEXT, min_size=1),
    include=st.lists(TEXT, max_size=3),
    exclude=st.lists(TEXT, max_size=3),
)
def test_a_file_is_taken_by_the_rule(
    paths: set[str], include: list[str], exclude: list[str]
) -> None:
    listing = Listing("s", "r", tuple(SourceFile(path, 0) for path in sorted(paths)))
    chosen = Selection(tuple(include), tuple(exclude))
    wanted = {
        path
        for path in paths
        if (not include or any(fnmatchcase(path, glob) for glob in include))
        and not any(fnmatchcase(path, glob) for glob in exclude)
    }
    try:
        assert {file.path for file in chosen.of(listing).files} == wanted
    except InvalidValue:
        unmatched = any(not any(fnmatchcase(p, glob) for p in paths) for glob in include)
        assert unmatched or not wanted
