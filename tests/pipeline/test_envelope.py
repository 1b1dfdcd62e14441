import numpy as np

from pipeline.envelope import envelope, pack_maps, unpack_maps


def test_maps_of_one_size_and_of_many_come_back():
    rng = np.random.default_rng(0)
    even = rng.random((3, 2, 5)).astype(np.float32)
    mixed = [rng.random(shape).astype(np.float32) for shape in ((2, 3), (0, 0), (1, 7))]
    for maps in (even, mixed, mixed[:1]):
        found = unpack_maps(envelope(**pack_maps(maps)), len(maps))
        assert len(found) == len(maps) and all((a == b).all() and a.shape == b.shape for a, b in zip(found, maps, strict=True))


def test_one_shape_is_that_of_all():
    unit = envelope(maps=np.arange(12, dtype=np.float32).tobytes(), map_shape=[2, 3])
    assert [cells.tolist() for cells in unpack_maps(unit, 2)] == np.arange(12).reshape(2, 2, 3).tolist()
