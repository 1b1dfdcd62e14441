import pyarrow as pa

from jobs.benchmark.whole_run import slots_per_image


def test_an_images_slots():
    units = [pa.table({"n": range(count)}) for count in (16, 40, 4)]
    assert slots_per_image(units, 16) == (16 + 48 + 16) / 60
    assert slots_per_image(units[:1], 16) == 1.0
