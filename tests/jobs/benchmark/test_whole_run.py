import pyarrow as pa
import pytest
from own_time import set_time

from jobs.benchmark import whole_run
from jobs.benchmark.whole_run import Watched, slots_per_image
from pipeline.run import RunProgress


def test_an_images_slots():
    units = [pa.table({"n": range(count)}) for count in (16, 40, 4)]
    assert slots_per_image(units, 16) == (16 + 48 + 16) / 60
    assert slots_per_image(units[:1], 16) == 1.0


def test_the_steady_rate_begins_with_the_first_commit(monkeypatch):
    """100 images/s, after a start of ten seconds and before an end of seven."""
    watched, progress = Watched(began=0.0), RunProgress(planned=400)
    for now, done in ((5, 0), (10, 100), (11, 200), (13, 400), (20, 400)):
        set_time(monkeypatch, whole_run, perf_counter=lambda now=now: float(now))
        progress.done = done
        watched(progress)
        if done <= 100:
            assert watched.steady() == [], "one commit is no rate"
    (figure,) = watched.steady()
    assert (figure.name, figure.unit) == ("steady_run_per_s", "images/s") and figure.value == pytest.approx(100)
    assert watched.committed_s == 13, "the rest is finalize"
