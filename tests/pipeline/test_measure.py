import numpy as np
import pyarrow as pa

from jobs.bench_input import jpegs
from jobs.decoded_images import encoded_units
from pipeline.decode import DecodeConfig
from pipeline.measure import decode_alone, pillow_alone
from pipeline.sources.config import SourceConfig

DECODE = DecodeConfig(height=32, width=32)


def test_every_image_of_a_measurement_is_decoded_at_least_once(tmp_path):
    contents = list(jpegs(64, 48, 3))
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    encoded = list(encoded_units(SourceConfig(input_uri=str(tmp_path))))
    assert pa.concat_tables(encoded).num_rows == 3
    for rate, images in ((decode_alone(encoded, DECODE, 0), 3), (pillow_alone(contents, DECODE, 0), 1)):
        assert rate.images == images and np.isfinite(rate.per_s) and rate.per_s > 0
