import numpy as np
import pyarrow as pa

from jobs.benchmark.inputs import jpegs
from jobs.benchmark.rates import decode_alone, pillow_alone
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
