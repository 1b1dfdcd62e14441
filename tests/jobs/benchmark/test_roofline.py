import pytest

from jobs.benchmark.ceilings import Ceilings
from jobs.benchmark.roofline import Roofline


def test_shares_and_sentence():
    ceilings = Ceilings({"float32": 100e9, "bfloat16": 400e9}, 20e9)
    roofline = Roofline({"float32": 1e9, "bfloat16": 2e9}, 50e6, ceilings, per_s=20)
    assert roofline.share_of_arithmetic == pytest.approx(20 * (0.010 + 0.005))
    assert roofline.share_of_memory == pytest.approx(20 * 0.0025)
    assert roofline.sentence("this CPU") == (
        "roofline: an image takes 1 GFLOP in float32 and 2 GFLOP in bfloat16, and 50 MB if no cache holds any; this CPU does "
        "at best 100 GFLOP/s in float32, 400 GFLOP/s in bfloat16 and 20 GB/s, so at 20.0 images/s the model reaches 30% of its "
        "arithmetic and 5% of its memory's speed"
    )
