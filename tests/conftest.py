"""Every test starts from an environment that says nothing of a cluster, a bucket or a proxy."""

from __future__ import annotations

import os
import re
import signal

import hypothesis
import pytest

# How long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile("qwenkit", deadline=None)
hypothesis.settings.load_profile("qwenkit")

# Tests interrupt themselves and their children; what runs in the background may ignore that.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

OURS = re.compile(r"(QWENKIT|OSS|OPENAI|HF|MODELSCOPE)_|KUBECONFIG$|(HTTPS?|ALL|NO)_PROXY$", re.I)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path_factory):
    for name in [name for name in os.environ if OURS.match(name)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QWENKIT_LANG", "en")  # whatever the locale
    # No kubeconfig of the person who runs the tests is ever read.
    monkeypatch.setenv("KUBECONFIG", str(tmp_path_factory.getbasetemp() / "no-kubeconfig"))
    # Nor the record of what this person has learnt.
    record = tmp_path_factory.getbasetemp() / "progress.json"
    record.unlink(missing_ok=True)
    monkeypatch.setenv("QWENKIT_PROGRESS", str(record))
