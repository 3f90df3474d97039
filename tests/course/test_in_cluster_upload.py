"""``upload --in-cluster``: the same result as from here, and nothing stays in the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import oss2
import pytest

from qwenkit.in_cluster.manifest import transfer_name
from qwenkit.settings import Settings

TINY = "modelscope:qwen/Qwen-7B-Chat-Int8"
MIB = 2**20


@pytest.fixture
def kubectl(environment):
    def run(*words, **how):
        done = subprocess.run(
            ["kubectl", *words], env=environment, capture_output=True, text=True, timeout=60, **how
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def target(environment):
    """Return the URL of a prefix in the bucket."""
    return lambda name: f"oss://{environment['OSS_BUCKET']}/{name}"


@pytest.fixture
def nothing_left(kubectl):
    def check():
        found = kubectl("get", "jobs,pods,secrets", "-o", "name", "-l", "qwenkit.dev/run")
        assert found == ""
        eventually(lambda: not programs(""))  # which may be another test's

    return check


@pytest.fixture
def padded(sandbox):
    """Return a model with a file of three parts, of which the third can be made to stall."""
    folder = sandbox / "hub" / "qwen" / "padded"
    shutil.copytree(sandbox / "hub" / "qwen" / "Qwen-7B-Chat-Int8", folder, dirs_exist_ok=True)
    (folder / "padding.bin").write_bytes(os.urandom(MIB) * 40)
    yield "modelscope:qwen/padded"
    shutil.rmtree(folder)


@pytest.fixture
def stall(qwenkit, sandbox):
    """Let the next part that is sent stall for longer than the test."""

    def fault(*words):
        done = qwenkit("sandbox", "fault", *words, "--root", str(sandbox))
        assert done.returncode == 0, done.stderr

    fault("oss", "stall", "--on", "UploadPart", "--times", "1", "--seconds", "100")
    yield
    fault("clear")


@pytest.fixture
def in_background(environment):
    """Return a function that starts an upload with a Ctrl-C of its own."""
    with contextlib.ExitStack() as stack:

        def start(*words):
            process = subprocess.Popen(
                [sys.executable, "-m", "qwenkit", "upload", *words, "--in-cluster"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def programs(word):
    """Return the ids of the pods' programs, and not of their supervisors, with a word in them."""
    shown = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True)
    lines = [line.split(maxsplit=1) for line in shown.stdout.splitlines()]
    return [
        int(pid)
        for pid, command in lines
        if f"qwenkit upload {TINY.partition(':')[0]}:" in command
        and "--progress" in command
        and "supervisor.py" not in command
        and word in command
    ]


def eventually(what, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)
    return found


def waits(environment, prefix):
    """Return whether only the part that stalls has not arrived."""
    keys = environment["OSS_ACCESS_KEY_ID"], environment["OSS_ACCESS_KEY_SECRET"]
    session = oss2.Session()
    session.session.trust_env = False
    store = oss2.Bucket(
        oss2.Auth(*keys), environment["OSS_ENDPOINT"], environment["OSS_BUCKET"], session=session
    )
    uploads = store.list_multipart_uploads(prefix=f"{prefix}/padding.bin").upload_list
    return sum(len(store.list_parts(one.key, one.upload_id).parts) for one in uploads) == 2


def actions(report):
    return {file["key"].rpartition("/")[2]: file["action"] for file in report["files"]}


def test_it_answers_as_an_upload_from_here(qwenkit, target, nothing_left, environment):
    url = target("beside")
    first = qwenkit("upload", TINY, url, "--in-cluster")
    assert first.returncode == 0, first.stderr
    assert f"{url} is complete" in first.stdout
    assert "Complete" in first.stderr
    nothing_left()
    assert qwenkit("verify", url).returncode == 0
    again = qwenkit("upload", TINY, url, "--in-cluster", "--json")
    report = json.loads(again.stdout)
    assert (again.returncode, again.stderr, report["bytes_sent"]) == (0, "", 0)
    assert set(actions(report).values()) == {"skipped"}
    here = json.loads(qwenkit("upload", TINY, url, "--json").stdout)
    assert here | {"seconds": 0} == report | {"seconds": 0}
    assert environment["OSS_ACCESS_KEY_SECRET"] not in first.stdout + first.stderr + again.stdout
    nothing_left()


def test_after_ctrl_c_nothing_runs_and_the_next_upload_resumes(
    environment, in_background, target, padded, stall, nothing_left
):
    url = target("interrupted")
    running = in_background(padded, url)
    eventually(lambda: waits(environment, "interrupted"))
    (program,) = programs("interrupted")
    running.kill()  # as if its terminal was closed: the Job keeps running
    running = in_background(padded, url)
    assert "padding.bin" in running.stderr.readline()
    assert programs("interrupted") == [program]
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "what arrived is kept" in errors
    nothing_left()
    report = json.loads(in_background(padded, url, "--json").communicate(timeout=60)[0])
    assert actions(report)["padding.bin"] == "resumed"
    assert report["bytes_sent"] < 40 * MIB


def test_a_killed_upload_is_tried_again_and_a_lost_connection_is_taken_up_again(
    environment, in_background, qwenkit, sandbox, target, padded, stall, nothing_left
):
    url = target("killed")
    running = in_background(padded, url, "--json")
    eventually(lambda: waits(environment, "killed"))
    order = ("sandbox", "fault", "api", "restart", "--seconds", "1", "--root", str(sandbox))
    assert qwenkit(*order).returncode == 0
    os.kill(eventually(lambda: programs("killed"))[0], signal.SIGKILL)
    out, errors = running.communicate(timeout=90)
    assert running.returncode == 0, errors
    assert actions(json.loads(out))["padding.bin"] == "resumed"
    assert json.loads(out)["bytes_sent"] < 40 * MIB
    nothing_left()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("registry.invalid/qwenkit:1", "the image registry.invalid/qwenkit:1 cannot be pulled"),
        ("docker.io/library/nginx:1", "its container ended with exit code 127"),
    ],
)
def test_a_wrong_image_is_explained(qwenkit, target, nothing_left, image, words):
    done = qwenkit("upload", TINY, target("x"), "--in-cluster", "--set", f"transfer_image={image}")
    assert done.returncode == 1
    assert words in done.stderr
    assert "the project's Dockerfile" in done.stderr
    nothing_left()


def test_what_the_upload_refuses_is_refused_at_once_in_its_own_words(qwenkit, target, nothing_left):
    arguments = ("upload", "modelscope:qwen/nothing", target("x"), "--json")
    here, there = qwenkit(*arguments), qwenkit(*arguments, "--in-cluster")
    assert there.returncode == 1
    assert json.loads(there.stdout).items() >= json.loads(here.stdout).items()
    nothing_left()


def test_a_job_of_somebody_else_is_left_alone(qwenkit, target, environment, kubectl):
    name = transfer_name(Settings(bucket=environment["OSS_BUCKET"], prefix="theirs"))
    container = {"name": "c", "image": "docker.io/library/busybox:1", "command": ["sleep", "600"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template},
    }
    kubectl("apply", "--server-side", "--validate=false", "-f", "-", input=json.dumps(job))
    try:
        done = qwenkit("upload", TINY, target("theirs"), "--in-cluster")
        assert done.returncode == 1
        assert "not ours" in done.stderr
        assert kubectl("get", "job", name, "-o", "jsonpath={.status.active}") == "1"
    finally:
        kubectl("delete", "job", name)


def test_a_folder_of_this_machine_cannot_be_uploaded_there(qwenkit, target, tmp_path):
    done = qwenkit("upload", str(tmp_path), target("x"), "--in-cluster")
    assert done.returncode == 2
    assert "without --in-cluster" in done.stderr
