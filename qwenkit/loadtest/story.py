"""Measure a load, change the setting, measure again: what notebook 06 does, step by step."""

from __future__ import annotations

from collections.abc import Mapping

from qwenkit.autoscaling.annotation_keys import PREFIX
from qwenkit.capacity.traffic import Traffic
from qwenkit.cluster.client import Cluster
from qwenkit.cluster.diagnosis.explanation import Explanation
from qwenkit.cluster.live_scaling import live_scaling
from qwenkit.cluster.wait import OnChange, wait
from qwenkit.cluster.watching import ClusterSample, sample_cluster
from qwenkit.inference.load.running import start_load
from qwenkit.loadtest.running import LoadTest
from qwenkit.settings import Settings
from qwenkit.steps import find_server, load_request

_WORDS = {
    "ttft_p50_s": "TTFT p50, s",
    "ttft_p95_s": "TTFT p95, s",
    "latency_p95_s": "latency p95, s",
    "goodput_share": "within the objective",
    "tokens_per_second": "tokens/s",
    "max_ready": "replicas at most",
    "gpu_seconds": "GPU-seconds",
    "cost_cny": "CNY",
    "cny_per_million_tokens": "CNY per million tokens",
}


def wake(settings: Settings, *, on_change: OnChange | None = None) -> ClusterSample:
    """Bring the serving revision to its fewest replicas, at least one ready; return what there is.

    A replica is started by a request. More replicas than that are waited for until they end.

    Raises:
        NotFound: there is no such Service.
        WaitTimeout: there are still more, or none is ready.

    >>> from qwenkit import Settings, wake
    >>> wake(Settings()).served.ready
    1
    """
    cluster, least = Cluster.connect(settings), max(1, settings.min_scale)

    def until(words: str, low: int, seconds: float) -> ClusterSample:
        def reached(now: ClusterSample) -> bool:
            return low <= now.served.ready and now.served.ready + now.served.starting <= least

        return wait(
            lambda: sample_cluster(cluster, settings.service),
            what=f"ksvc {settings.service}: {words}",
            ready=reached,
            describe=lambda now: f"{now.serving}: {now.served}",
            late=lambda now: Explanation("scale", f"last: {now.served}", fix="is there traffic?"),
            timeout_s=seconds,
            on_change=on_change,
        ).value

    until(f"at most {least} replicas left", 0, settings.seconds("scale"))
    find_server(settings).ask(settings.prompt, max_tokens=1)
    return until(f"{least} replicas ready", least, settings.seconds("ready"))


def other_than(settings: Settings) -> list[str]:
    """Return what scales the service otherwise than the settings say, in words."""
    found = live_scaling(Cluster.connect(settings), settings.service).annotations
    wanted = {
        "metric": settings.scale_metric,
        "target": f"{settings.scale_target:g}",
        "max-scale": str(settings.max_scale),
    }
    pairs = ((name, found.get(PREFIX + name), value) for name, value in wanted.items())
    return [f"{name} is {is_}, not {value}" for name, is_, value in pairs if is_ != value]


def start_test(settings: Settings, traffic: Traffic) -> LoadTest:
    """Send a traffic through the gateway, and watch the cluster meanwhile; return at once.

    >>> from qwenkit import ClosedLoop, Settings, start_test
    >>> start_test(Settings(), ClosedLoop(((0, 1), (1, 0)))).result().load.summary()["errors"]
    {}
    """
    server, asked = find_server(settings), load_request(settings)
    return LoadTest(
        Cluster.connect(settings), settings.service, lambda: start_load(server, traffic, **asked)
    )


def side_by_side(*columns: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Return a row for each figure: its name, and its value in each column."""
    return [
        (words, *(f"{column[name]:.3g}" if name in column else "–" for column in columns))
        for name, words in _WORDS.items()
    ]


def bought(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Say in a sentence what a change of the setting cost and gave."""

    def change(name: str) -> str:
        old, new = before.get(name, 0.0), after.get(name, 0.0)
        return f"{100 * (new / old - 1):+.0f} %" if old else f"{new:.3g}"

    return (
        f"GPU-seconds {change('gpu_seconds')} and CNY per million tokens "
        f"{change('cny_per_million_tokens')}, for TTFT p50 {change('ttft_p50_s')}, p95 "
        f"{change('ttft_p95_s')} and tokens/s {change('tokens_per_second')}; "
        f"{after.get('goodput_share', 0):.0%} of the requests were within the objective "
        f"({before.get('goodput_share', 0):.0%} before)"
    )
