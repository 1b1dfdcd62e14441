import xml.etree.ElementTree as ElementTree

import pytest

from jobs.pages.report_chart import histogram_svg
from pipeline.report.facts import Histogram


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize(
    "histogram",
    [
        Histogram(0.0, 10.0, (0, 5, 1, 1000, 0, 1), {0.5: 3.0, 0.9: 3.1, 0.99: 9.9, 0.999: 10.0}),
        Histogram(2.0, 2.0, (7, 0, 0), {0.5: 2.0, 0.9: 2.0, 0.99: 2.0, 0.999: 2.0}),
        Histogram(-1e-7, 1e9, (1, 0, 2), {0.5: 1.0, 0.9: 1e8, 0.99: 5e8, 0.999: 1e9}),
    ],
)
def test_histogram_is_a_picture(histogram, logarithmic):
    root = ElementTree.fromstring(histogram_svg(histogram, logarithmic))
    bars = [element for element in root.iter("rect") if element.get("class") == "bar"]
    assert len(bars) == sum(count > 0 for count in histogram.counts)
    for bar in bars:
        assert 0 <= float(bar.get("y")) and float(bar.get("y")) + float(bar.get("height")) <= 270
        assert 0 <= float(bar.get("x")) <= 960
    heights = [float(bar.get("height")) for bar in bars]
    assert heights.index(max(heights)) == [c for c in histogram.counts if c].index(max(histogram.counts))
    for label in (element for element in root.iter("text") if element.get("class") == "label"):
        assert -20 <= float(label.get("x")) <= 980
