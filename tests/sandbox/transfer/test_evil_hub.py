"""Whatever a hub answers ends in one typed error that says what is wrong; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from evil.answers import EVILS
from evil.hub import Evil, evil_hub
from transfer_world import World, world

from qwenkit.errors import QwenkitError
from qwenkit.weights.hub.repository import open_source
from qwenkit.weights.oss.bucket import list_objects
from qwenkit.weights.retry import RetryPolicy
from qwenkit.weights.transfer import TransferOptions, upload

TOKEN = "token-4711"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("evil")) as found:
        yield found


# Each once, from one of its hubs; tools/evil_hub.py asks both, in processes of their own.
QUICK = [evil for evil in EVILS if not evil.slow]
ONCE = [(evil, evil.kinds[n % len(evil.kinds)]) for n, evil in enumerate(QUICK)]


@pytest.mark.parametrize(("evil", "kind"), ONCE, ids=str)
def test_every_evil_answer_ends_in_one_error(
    place: World, monkeypatch: pytest.MonkeyPatch, evil: Evil, kind: str
) -> None:
    monkeypatch.setattr("qwenkit.weights.retry.random.uniform", lambda *_: 0.0)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    options = TransferOptions(retries=RetryPolicy(attempts=2, base_s=0.01))
    prefix = f"{evil.name}/{kind}"
    limit_s = evil.limit_s or 60
    with evil_hub(evil) as hub:
        source = open_source(f"{kind}:a/b", modelscope_endpoint=hub.url, hf_endpoint=hub.url)
        try:
            upload(
                source, place.bucket, prefix, run="r", state_dir=place.state, options=options,
                timeout_s=limit_s,
            )  # fmt: skip
        except QwenkitError as error:
            check(evil, error, hub.url)
            assert not [one for one in list_objects(place.bucket, prefix) if "qwenkit." in one.key]
        else:
            assert evil.errors == ()
        assert hub.leaked == []


def check(evil: Evil, error: QwenkitError, url: str) -> None:
    text = str(error)
    assert type(error).__name__ in evil.errors, text
    assert evil.says in text
    assert error.why
    assert error.fix
    assert any(part in text for part in (url, "a/b@", "model.safetensors", "upload_timeout_s"))
    assert text.replace("\n", "").isprintable()
    assert len(text) < 1500
    assert TOKEN not in text
