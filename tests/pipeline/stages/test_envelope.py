import numpy as np

from pipeline.stages.envelope import envelope, pack_explanations, pack_maps, unpack_explanations, unpack_maps


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


def test_explanations_come_back_at_their_positions():
    rng = np.random.default_rng(0)
    maps = [rng.random(shape).astype(np.float32) for shape in ((2, 3), (0, 0), (1, 7))]
    for given in ({2: maps[2] + 1, 0: maps[0] + 2}, {}):
        unit = envelope(**pack_explanations(given, "grad_cam"))
        found = unpack_explanations(unit, maps)
        assert list(found) == list(given) and all((found[i] == given[i]).all() for i in given)
        assert unit["explanation_method"].to_pylist() == ["grad_cam"]
    assert pack_explanations({}, None) == {} and unpack_explanations(envelope(maps=b""), maps) == {}
