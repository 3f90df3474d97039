"""``teardown --expired`` removes what has expired, of any run, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cluster_api import KSVC, OURS, Api, obj
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from qwenkit import steps
from qwenkit.cluster.ownership import has_expired
from qwenkit.cluster.removal import Manner
from qwenkit.errors import SettingsError
from qwenkit.manifests.render import render
from qwenkit.manifests.template import plain
from qwenkit.settings import Settings

PV, PVC, POD, SECRET = ("v1/PersistentVolume", "v1/PersistentVolumeClaim", "v1/Pod", "v1/Secret")
KEY = "qwenkit.dev/expires-at"
PAST, FUTURE = "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def made(kind: str, name: str, run: str, expires: str | None, **more: Any) -> Any:
    one = obj(kind, name, labels=OURS | {"qwenkit.dev/run": run}, spec={}, **more)
    one["metadata"] |= {"annotations": {KEY: expires}} if expires else {}
    return one


def names(api: Api) -> set[str]:
    return {f"{kind.rpartition('/')[2]}/{name}" for kind, _, name in api.objects}


@pytest.mark.usefixtures("cluster")
def test_what_is_over_goes_whatever_its_run(api: Api) -> None:
    for run, expires in (("alice", PAST), ("bob", PAST), ("carol", FUTURE), ("prod", None)):
        for kind in (KSVC, PVC, PV, SECRET):
            api.add(made(kind, f"{run}-x", run, expires))
    ended = steps.remove_expired(Settings())
    assert ended.error is None
    assert names(api) == {
        f"{kind}/{run}-x"
        for kind in ("Service", "PersistentVolumeClaim", "PersistentVolume", "Secret")
        for run in ("carol", "prod")
    }
    assert ended.leaks.found == ended.leaks.unknown == ()
    assert "ksvc alice-x: deleted" in str(ended.removed)


@pytest.mark.usefixtures("cluster")
def test_a_volume_that_another_namespace_uses_is_left_to_it(api: Api) -> None:
    there = {"namespace": "theirs", "name": "c"}
    api.add(made(PV, "held", "a", PAST) | {"spec": {"claimRef": there}})
    api.add(made(PVC, "c", "a", PAST, namespace="theirs"))
    api.add(made(PV, "left", "a", PAST) | {"spec": {"claimRef": there | {"name": "gone"}}})
    assert steps.remove_expired(Settings()).leaks.found == ()
    assert names(api) == {"PersistentVolume/held", "PersistentVolumeClaim/c"}


@pytest.mark.usefixtures("cluster")
def test_a_time_that_cannot_be_read_expires_never_and_is_named(api: Api) -> None:
    for number, text in enumerate(("soon", "2020-01-01", "2020-01-01T00:00:00", "0")):
        api.add(made(SECRET, f"s{number}", "a", text))
    theirs = obj(SECRET, "theirs", labels={"app.kubernetes.io/managed-by": "Helm"})
    theirs["metadata"]["annotations"] = {KEY: PAST}
    api.add(theirs)
    leaks = steps.remove_expired(Settings()).leaks
    assert len(api.objects) == 5
    assert leaks.found == ()
    assert len(leaks.unknown) == 4
    assert f"secret/s0: {KEY} is not a time with an offset from UTC" in leaks.unknown


@pytest.mark.usefixtures("cluster")
def test_what_is_renewed_meanwhile_stays(api: Api) -> None:
    secret = api.add(made(SECRET, "s", "a", PAST))

    def renew(method: str, _path: str, _body: Any) -> None:
        if method == "DELETE":
            secret["metadata"]["annotations"][KEY] = FUTURE

    api.add(made(PVC, "c", "a", PAST))
    api.refuse = renew
    steps.remove_expired(Settings())
    assert names(api) == {"Secret/s"}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("kinds", [(KSVC, PVC), (PVC, SECRET), (SECRET,)])
def test_killed_at_any_moment_and_run_again_nothing_is_left(
    api: Api, kinds: tuple[str, ...]
) -> None:
    for kind in (KSVC, PVC, PV, SECRET):
        api.add(made(kind, "x", "a", PAST))
    for kind in kinds:  # an earlier run came so far
        api.objects.pop(next(key for key in api.objects if key[0] == kind))
    assert steps.remove_expired(Settings(), manner=Manner(now=True)).leaks.found == ()
    assert api.objects == {}


def test_every_object_says_when_it_expires_only_where_that_is_asked_for() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    for document in render(Settings(expires_after="1h30m")):
        (text,) = document["metadata"]["annotations"].values()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
        left = datetime.fromisoformat(text) - before
        assert timedelta(minutes=90) <= left <= timedelta(minutes=91)
        assert isinstance(plain(document)["metadata"]["annotations"][KEY], str)
        assert not has_expired(document)
    assert KEY not in str([plain(document) for document in render(Settings())])
    assert all("annotations" not in document["metadata"] for document in render(Settings()))


@pytest.mark.parametrize("value", ["0s", "8", "-1h", "1y", "9999999h", "8 h", "h", "1e3h"])
def test_a_lifetime_is_a_duration(value: str) -> None:
    with pytest.raises(SettingsError, match="expires_after"):
        Settings(expires_after=value)


@given(text=st.text() | st.datetimes().map(str) | st.sampled_from([PAST, FUTURE]))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_annotation_is_read(text: str) -> None:
    assert has_expired(made(SECRET, "s", "a", text)) in (True, False)
