"""The charts of the thesis: every autoscaler named, nothing on top of something else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from qwenkit.capacity.search.autoscalers import (
    FIXED,
    TARGETS,
    AutoscalerComparison,
    compare_autoscalers,
)
from qwenkit.capacity.search.candidates import Objective
from qwenkit.capacity.simulation.server import VllmServer
from qwenkit.capacity.simulation.traffic import bursts, poisson
from qwenkit.widgets.autoscaler_chart import autoscaler_chart
from qwenkit.widgets.svg import text_width

V100 = VllmServer("V100-16", "Qwen-7B-Chat-Int8")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module", params=["busy", "quiet"])
def compared(request: pytest.FixtureRequest) -> AutoscalerComparison:
    load = (
        bursts(0.3, 4, 600, every_s=300, burst_s=90)
        if request.param == "busy"
        else poisson(0.1, 300)
    )
    wanted = Objective(ttft_p95_s=2, tpot_p95_s=0.06)
    return compare_autoscalers(V100, load, objective=wanted, gpus=3)


def test_every_autoscaler_is_named_once_and_labels_do_not_overlap(
    compared: AutoscalerComparison,
) -> None:
    root = ElementTree.fromstring(autoscaler_chart(compared).svg())
    labels = [
        (float(each.attrib["x"]), float(each.attrib["y"]), each.text or "")
        for each in root.iter(f"{SVG}text")
        if re.match(r"(HPA|KPA|KEDA|fixed)", each.text or "")
    ]
    assert sorted(text.partition(":")[0] for _, _, text in labels) == sorted((*TARGETS, FIXED))
    for number, (x, y, text) in enumerate(labels):
        assert 0 < x < 720 - 0.8 * text_width(text)
        for other_x, other_y, other in labels[:number]:
            apart = abs(y - other_y) >= 14
            assert (
                apart
                or x >= other_x + 0.8 * text_width(other)
                or other_x >= x + 0.8 * text_width(text)
            )


def test_every_setting_is_a_point_with_its_figures(compared: AutoscalerComparison) -> None:
    root = ElementTree.fromstring(autoscaler_chart(compared).svg())
    tips = [each.text or "" for each in root.iter(f"{SVG}title")]
    assert len(tips) == len(compared.outcomes)
    for tip, each in zip(tips, compared.outcomes, strict=True):
        assert each.autoscaler in tip
        assert f"GPU-hours {round(each.gpu_hours, 3)}" in tip


def test_a_colour_and_a_shape_for_each(compared: AutoscalerComparison) -> None:
    svg = autoscaler_chart(compared).svg()
    looks = set(re.findall(r'scale\([\d.]+\)" d="(.+?)" fill="(#\w+)"', svg))
    assert (
        len(looks) == len({shape for shape, _ in looks}) == len({color for _, color in looks}) == 5
    )
