"""Measure a load, change the setting, measure again: what notebook 06 does, step by step."""

from __future__ import annotations

from contextlib import closing

from qwenkit.capacity.simulation.traffic import Traffic
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.gpu_slot import lost, within_slot
from qwenkit.cluster.wait import OnChange, wait
from qwenkit.cluster.watching import ClusterSample, sample_cluster
from qwenkit.inference.load.running import start_load
from qwenkit.loadtest.running import LoadTest
from qwenkit.settings import Settings
from qwenkit.steps import find_server, load_request


def wake(settings: Settings, *, on_change: OnChange | None = None) -> ClusterSample:
    """Bring the serving revision to its fewest replicas, at least one ready; return what there is.

    A replica is started by a request; in a workshop a GPU slot is waited for first. More replicas
    than that are waited for until they end.

    Raises:
        NotFound: there is no such Service.
        WaitTimeout: there are still more, or none is ready.

    >>> from qwenkit import Settings, wake
    >>> wake(Settings()).served.ready
    1
    """
    cluster = Cluster.connect(settings)
    settings = within_slot(cluster, settings, on_change=on_change)
    least = max(1, settings.min_scale)

    def until(words: str, low: int, seconds: float) -> ClusterSample:
        def reached(now: ClusterSample) -> bool:
            return low <= now.served.ready and now.served.ready + now.served.starting <= least

        return wait(
            lambda: sample_cluster(cluster, settings.service),
            what=f"ksvc {settings.service}: {words}",
            ready=reached,
            describe=lambda now: f"{now.serving}: {now.served}",
            failed=lambda _now: lost(cluster, settings) if low else None,
            late=lambda now: Explanation("scale", f"last: {now.served}", fix="is there traffic?"),
            timeout_s=seconds,
            on_change=on_change,
        ).value

    until(f"at most {least} replicas left", 0, settings.seconds("scale"))
    with closing(find_server(settings)) as server:
        server.ask(settings.prompt, max_tokens=1)
    return until(f"{least} replicas ready", least, settings.seconds("ready"))


def start_test(settings: Settings, traffic: Traffic) -> LoadTest:
    """Send a traffic through the gateway, and watch the cluster meanwhile; return at once.

    >>> from qwenkit import Settings, start_test
    >>> from qwenkit.capacity.simulation.traffic import ClosedLoop
    >>> start_test(Settings(), ClosedLoop(((0, 1), (1, 0)))).result().load.summary()["errors"]
    {}
    """
    cluster = Cluster.connect(settings)
    settings = within_slot(cluster, settings)
    server, asked = find_server(settings), load_request(settings)
    return LoadTest(cluster, settings.service, lambda: start_load(server, traffic, **asked))
