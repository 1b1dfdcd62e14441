import threading

import numpy as np
import pyarrow as pa

from jobs.benchmark import rates
from jobs.benchmark.inputs import jpegs
from jobs.benchmark.rates import decode_alone, model_alone, pillow_alone
from pipeline.decode.config import DecodeConfig
from pipeline.in_process import encoded_units
from pipeline.input.config import SourceConfig

DECODE = DecodeConfig(height=32, width=32)


def test_every_image_of_a_measurement_is_decoded_at_least_once(tmp_path):
    contents = list(jpegs(64, 48, 3))
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    encoded = list(encoded_units(SourceConfig(input_uri=str(tmp_path))))
    assert pa.concat_tables(encoded).num_rows == 3
    for rate, images in ((decode_alone(encoded, DECODE, 0), 3), (pillow_alone(contents, DECODE, 0), 1)):
        assert rate.images == images and np.isfinite(rate.per_s) and rate.per_s > 0


class Filling:
    """A scorer on a clock of its own: a call takes a second of the device, the first ten more. It begins when two call it."""

    batch_size = 4

    def __init__(self):
        self.now, self.calls = 0.0, 0
        self.both, self.device = threading.Barrier(2, timeout=30), threading.Lock()
        self.end = threading.local()  # of the thread's last call

    def perf_counter(self):
        return getattr(self.end, "at", 0.0)

    def __call__(self, pixels):
        if not hasattr(self.end, "at"):
            self.both.wait()
        with self.device:
            self.now += 1 if self.calls else 11
            self.calls, self.end.at = self.calls + 1, self.now


def test_the_rate_of_a_model_is_that_of_full_lanes(monkeypatch):
    scorer = Filling()
    monkeypatch.setattr(rates, "time", scorer)
    assert model_alone(np.zeros((6, 2, 2, 3), np.uint8), scorer, seconds=0).per_s == 6
    assert scorer.calls >= 3
