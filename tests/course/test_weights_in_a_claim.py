"""``storage=pvc``: a Job fills a claim; teardown keeps it, until the weights are to go too."""

from __future__ import annotations

import subprocess

import pytest

from qwenkit import Settings, Weights, apply, audit, deploy, render, teardown
from qwenkit.errors import Conflict, NotFound, SettingsError
from qwenkit.steps import find_occupants


@pytest.fixture
def settings(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_BUCKET", "OSS_ENDPOINT"):
        monkeypatch.delenv(name)
    return Settings(storage="pvc", volume="filled", run="claims", service="of-claims")


def shown(environment, *words):
    done = subprocess.run(
        ["kubectl", "get", *words], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def test_a_claim_from_its_job_to_its_end(settings, environment, sandbox):
    weights, seen = Weights.of(settings), []
    assert "a Job of localhost/qwenkit" in weights.check()
    assert str(weights.kept()) == "nothing under pvc://default/filled/Qwen-7B-Chat-Int8"
    with pytest.raises(NotFound, match="holds no model") as unfilled:
        deploy(settings)
    assert "qwenkit upload modelscope:" in unfilled.value.fix
    assert shown(environment, "pvc,ksvc", "-o", "name", "-l", "qwenkit.dev/run=claims") == ""
    report = weights.upload(progress=seen.append)
    assert report.prefix == settings.prefix
    assert (report.url, seen[-1].files_done) == (weights.url, len(report.files))
    assert {f.action for f in report.files} == {"uploaded"}
    listed = {file.path: file.sha256 for file in weights.source.listing().files}
    assert {f.key: f.sha256 for f in report.files} == {
        f"{settings.prefix}/{path}": sha256 for path, sha256 in listed.items()
    }
    assert "standard" in shown(environment, "pvc", "filled")
    assert "rancher.io/local-path" in shown(environment, "sc")
    (folder,) = (sandbox / "volumes").glob(f"pvc-*/{settings.prefix}")

    (folder / "config.json").write_text("{}")
    checked = weights.verify()
    assert [problem.file for problem in checked.problems] == ["config.json"]
    assert {key for key, _ in checked.stored} > {f.key for f in report.files}
    assert {one.key for one in weights.objects()} == {key for key, _ in checked.stored}

    documents = render(settings)[:-1]
    assert [one.kind for one in apply(settings, documents)] == ["PersistentVolumeClaim"]
    assert weights.kept().objects == len(report.files)
    assert find_occupants(settings) == ()
    with pytest.raises(Conflict, match="not ours"):
        apply(settings.model_copy(update={"run": "other"}), documents)

    removed = {step.name: step.outcome for step in teardown(settings).steps}
    assert removed["pvc filled"] == "kept: it holds the weights"
    assert audit(settings).found == ()
    stranger = settings.model_copy(update={"run": "other", "delete_weights": True})
    assert {step.removed for step in teardown(stranger).steps} == {False}
    assert audit(stranger).found == ()
    deleting = settings.model_copy(update={"delete_weights": True})
    assert audit(deleting).found == ("pvc/filled with the weights",)
    removed = {step.name: step.outcome for step in teardown(deleting).steps}
    assert removed["weights"] == f"deleted: {len(report.files)} files"
    assert audit(deleting).found == ()
    assert not folder.exists()
    for left in ("jobs,pods,secrets", "pvc,pv"):
        assert shown(environment, left, "-o", "name", "-l", "qwenkit.dev/run=claims") == ""


def test_what_cannot_be_is_refused_with_the_fix(settings, tmp_path):
    def refused(**values):
        weights = Weights.of(settings.model_copy(update=values))
        with pytest.raises(SettingsError) as error:
            weights.upload()
        return error.value

    assert "the cluster cannot read it" in refused(model_source=str(tmp_path)).why
    assert "docker build" in refused(transfer_image="").fix
    assert refused(storage="nas").fix == "--set nas_server=…"


def test_what_a_nas_holds_is_not_known_without_a_job(settings):
    nas = Weights.of(settings.model_copy(update={"storage": "nas", "nas_server": "a-b"}))
    assert str(nas.kept()) == f"only a Job sees what is under {nas.url}"
