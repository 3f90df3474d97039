"""What a run leaves alone: the weights that a person uploaded, whatever the parameters say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import oss2
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[2]
PARAMS = str(ROOT / "notebooks" / "params" / "sandbox.yaml")
SOURCE, PREFIX = "modelscope:qwen/Qwen-7B-Chat-Int8", "runs/Qwen-7B-Chat-Int8"
NAMES = ("--set", f"prefix={PREFIX}", "--set", "service=alone", "--set", "volume=alone")


@pytest.fixture
def bucket(environment):
    keys = environment["OSS_ACCESS_KEY_ID"], environment["OSS_ACCESS_KEY_SECRET"]
    session = oss2.Session()
    session.session.trust_env = False
    place = environment["OSS_ENDPOINT"], environment["OSS_BUCKET"]
    yield oss2.Bucket(oss2.Auth(*keys), *place, session=session)
    session.session.close()


def keys(bucket, prefix=PREFIX):
    return {one.key for one in bucket.list_objects_v2(prefix, max_keys=1000).object_list}


@pytest.fixture
def target(environment):
    return f"oss://{environment['OSS_BUCKET']}/{PREFIX}"


@pytest.fixture
def failing(tmp_path):
    """Return a run that fails in 00, of a person who gives it the label of the upload by hand."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = new_notebook(cells=[new_code_cell("1 / 0", id="only")], metadata=kernel)
    nbformat.write(book, folder / "00-preflight.ipynb")
    shutil.copy(ROOT / "notebooks" / "90-teardown.ipynb", folder)
    output = ("--notebooks", str(folder), "--output", str(tmp_path / "runs"))
    return "run", "-p", PARAMS, *NAMES, *output, "--json"


def test_a_run_that_fails_leaves_weights_of_a_person(qwenkit, bucket, target, failing):
    uploaded = qwenkit("upload", SOURCE, target, "--set", "run=mine")
    assert uploaded.returncode == 0, uploaded.stderr
    before = keys(bucket)
    done = qwenkit(*failing, "--set", "run=mine")
    assert done.returncode == 1
    assert keys(bucket) == before
    summary = json.loads(done.stdout)
    assert summary["leaks"] == []
    (step,) = [step for step in summary["teardown"]["steps"] if step["name"] == "weights"]
    assert step["outcome"].startswith("deleted: 0 objects that this run uploaded")
    kept = qwenkit("teardown", *NAMES, "--json")
    assert (kept.returncode, keys(bucket)) == (0, before)
    gone = qwenkit("teardown", *NAMES, "--delete-weights", "--json")
    answer = json.loads(gone.stdout)
    assert gone.returncode == 0
    assert answer["leaks"] == {"found": [], "unknown": []}
    removed = {step["name"] for step in answer["removed"]["steps"] if step["removed"]}
    assert removed == {"weights"}
    assert keys(bucket) == set()


def test_what_a_killed_upload_left_is_found_and_goes(qwenkit, bucket, target):
    qwenkit("upload", SOURCE, target)
    bucket.delete_object(f"{PREFIX}/qwenkit.json")  # as if killed before it was written
    bucket.put_object(f"{PREFIX}/notes.txt", b"mine")
    theirs = bucket.init_multipart_upload(f"{PREFIX}/backup.tar").upload_id
    left = qwenkit("teardown", *NAMES, "--json")
    leaks = json.loads(left.stdout)["leaks"]
    assert left.returncode == 1
    assert "of an upload that did not end" in leaks["found"][0]
    assert "notes.txt" in leaks["unknown"][0]
    assert "backup.tar" in leaks["unknown"][1]
    gone = qwenkit("teardown", *NAMES, "--set", "delete_weights=true", "--json")
    assert (gone.returncode, json.loads(gone.stdout)["leaks"]["found"]) == (0, [])
    assert keys(bucket) == {f"{PREFIX}/notes.txt"}
    bucket.abort_multipart_upload(f"{PREFIX}/backup.tar", theirs)
    bucket.delete_object(f"{PREFIX}/notes.txt")
