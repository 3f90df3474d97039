"""Sources: what the user may write, and what a listing may hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.errors import InvalidValue, NotFound, Rejected, TransferError, Unreachable
from qwenkit.weights.hub.listing import Listing, SourceFile, content_revision, listed
from qwenkit.weights.hub.repository import open_source, parse_source

SOURCES = {
    "modelscope:qwen/Qwen-7B-Chat-Int8": ("modelscope", "qwen/Qwen-7B-Chat-Int8", "master"),
    "modelscope:qwen/Qwen@v1.0.3": ("modelscope", "qwen/Qwen", "v1.0.3"),
    "hf:Qwen/Qwen2-0.5B": ("hf", "Qwen/Qwen2-0.5B", "main"),
    "hf:Qwen/Qwen2@refs/pr/1": ("hf", "Qwen/Qwen2", "refs/pr/1"),
    "./models/qwen": ("folder", "./models/qwen", ""),
    "/data/a:b": ("folder", "/data/a:b", ""),
}


@pytest.mark.parametrize(("text", "wanted"), SOURCES.items())
def test_every_form_is_read(text: str, wanted: tuple[str, str, str]) -> None:
    source = parse_source(text)
    assert (source.kind, source.name, source.revision) == wanted
    assert parse_source(source.describe()) == source


@pytest.mark.parametrize(
    "text",
    ["", " ", "modelscope:", "modelscope:qwen", "modelscope:a/b/c", "hf:../x", "hf:a/b@",
     "hf:a/b@-x", "huggingface:a/b", "modelscope:qwen/../secret", "modelscope:q wen/x"],
)  # fmt: skip
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="source"):
        parse_source(text)


@pytest.mark.filterwarnings("ignore:SOCKS support")  # urllib3's own
def test_a_proxy_that_cannot_be_used_is_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    monkeypatch.setattr("qwenkit.weights.retry.random.uniform", lambda *_: 0.0)
    with pytest.raises(Unreachable, match="does not answer") as caught:
        open_source("modelscope:a/b", modelscope_endpoint="http://192.0.2.1").listing()
    assert "pysocks" in caught.value.fix


def test_a_hub_needs_an_address() -> None:
    for address in ("", "ftp://hub", "file:///etc/passwd", "http://[::1", "https://", "hub:99999"):
        with pytest.raises(InvalidValue, match="hf_endpoint"):
            open_source("hf:a/b", hf_endpoint=address)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../up", "a/../../b", "a//b", "", ".", "a/.", "a\nb", "a\0", "\ud800"],
)  # fmt: skip
def test_a_path_that_leaves_the_prefix_is_refused(path: str) -> None:
    with pytest.raises(Rejected):
        listed("hub", [SourceFile(path, 1)])


@settings(deadline=None)
@given(st.text(min_size=1))
def test_a_path_that_passes_stays_below_any_folder(path: str) -> None:
    try:
        listed("hub", [SourceFile(path, 1)])
    except Rejected:
        return
    assert os.path.normpath(f"/prefix/{path}") == f"/prefix/{path}"
    path.encode()


def test_a_backslash_is_a_letter() -> None:
    """Only Windows reads it otherwise, and neither a bucket nor a mount runs there."""
    names = ["..\\up", "\\", "a\\b"]
    assert [file.path for file in listed("hub", [SourceFile(n, 1) for n in names])] == names


def test_our_manifest_in_a_source_stays_behind() -> None:
    files = [SourceFile("b", 1), SourceFile("qwenkit.json", 1), SourceFile("a/qwenkit.json", 1)]
    assert [file.path for file in listed("hub", files)] == ["a/qwenkit.json", "b"]
    with pytest.raises(Rejected, match="twice"):
        listed("hub", [SourceFile("b", 1), SourceFile("b", 2)])


def test_a_revision_changes_with_every_fact() -> None:
    base = [SourceFile("a", 1, "x"), SourceFile("b", 2, "y")]
    others = [
        [SourceFile("a", 1, "x")],
        [SourceFile("a", 2, "x"), base[1]],
        [SourceFile("a", 1, "z"), base[1]],
        [SourceFile("c", 1, "x"), base[1]],
    ]
    assert content_revision(reversed(base)) == content_revision(base)
    assert len({content_revision(files) for files in [base, *others]}) == 5


@pytest.mark.parametrize(
    ("source", "size", "said"),
    [
        ("modelscope:qwen/Qwen-7B-Chat-Int8@v1.0.3", 2_700_000, "a stand-in of 2.7 MB"),
        ("/models/Qwen-7B-Chat/", 9_100_000_000, ""),  # of 15.4 GB: not a whole one, no toy
        ("hf:Qwen/Qwen-7B-Chat@main", 2_700_000, "whose weights are 15.4 GB"),
        ("modelscope:qwen/Qwen-7B-Chat-Int8@v1.0.3", 9_128_000_000, ""),
        ("hf:Qwen/Qwen2-0.5B@main", 2_700_000, "whose weights are 1.0 GB"),
        ("hf:some/Other@main", 2_700_000, ""),
    ],
)
def test_a_stand_in_is_named_with_what_the_model_weighs(source: str, size: int, said: str) -> None:
    found = Listing(source, "r", (SourceFile("a", size),)).stand_in
    assert said in found
    assert bool(said) is bool(found)


def test_a_folder_lists_its_files_without_git(tmp_path: Path) -> None:
    for name in ("a/b.txt", "z.txt", ".git/config", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link.txt").symlink_to(tmp_path / "z.txt")
    repository = open_source(str(tmp_path))
    listing = repository.listing()
    assert [file.path for file in listing.files] == [".hidden", "a/b.txt", "link.txt", "z.txt"]
    assert listing.revision == ""
    buffer = bytearray(10)
    with repository.open(listing.files[3], 2) as stream:
        assert stream.readinto(memoryview(buffer)) == 3
        assert stream.readinto(memoryview(buffer)) == 0
    assert buffer[:3] == b"txt"


def test_a_folder_that_changes_or_breaks_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1234")
    repository = open_source(str(tmp_path))
    (file,) = repository.listing().files
    with pytest.raises(TransferError, match="changed"), repository.open(file):
        (tmp_path / "a").write_text("5678 and more")
    with pytest.raises(TransferError, match="changed"), repository.open(file):
        pass
    (tmp_path / "a").unlink()
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="b cannot be read"):
        repository.listing()
    with pytest.raises(NotFound, match="does not exist"):
        open_source(str(tmp_path / "absent"))
