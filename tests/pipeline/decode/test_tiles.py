"""A unit's images as batches of tiles: the same from a child process, which a bad image costs one row."""

import io
import threading
import time

import numpy as np
import psutil
import pyarrow as pa
import pytest
from dangerous_decoders import installed, table
from PIL import Image

from models.maps.tiling import Tiling
from pipeline.decode import tiles as decode_tiles
from pipeline.decode.config import DecodeConfig
from pipeline.decode.tiles import InChild, InProcess, TiledUnit
from pipeline.input.encoded_rows import Fault

CONFIG = DecodeConfig(height=16, width=24, resize="tile")
TILING = Tiling((16, 24), (4, 6))
BATCH = 5


def picture(seed, size=(61, 40)):
    sink = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def read(contents, decoder, batch=BATCH, config=CONFIG, **options):
    decoders = decoder if isinstance(decoder, list) else [decoder]
    unit = TiledUnit(table(contents), config, TILING, batch, decoders, **options)
    batches = list(unit.batches())
    return batches, unit.rows()


@pytest.fixture
def dangerous(tmp_path, monkeypatch):
    """Makes a child whose decoder does to its process what the image says."""
    decoder = InChild(CONFIG, 0.6, installed(tmp_path, f"dangerous_tiles_{tmp_path.name}", monkeypatch))
    yield decoder
    decoder.close()


def test_a_child_gives_what_this_process_gives():
    contents = [picture(0), b"junk", Fault("gone", "x"), picture(1, (7, 5)), picture(2, (24, 16))]
    wanted, rows = read(contents, InProcess(CONFIG))
    child = InChild(CONFIG, 20)
    for _ in range(2):
        found, found_rows = read(contents, child)
        assert found_rows.equals(rows) and len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert one.position == other.position and one.grid == other.grid and (one.pixels == other.pixels).all()
    child.close()
    assert rows["error"].to_pylist() == [None, "not_an_image", "gone", None, None]
    assert rows["width"].to_pylist() == [61, None, None, 7, 24]


def test_batches_hold_every_tile_of_one_image_in_order():
    contents = [picture(0), picture(1, (24, 16))]
    batches, _ = read(contents, InProcess(CONFIG))
    counts = [len(batch.pixels) for batch in batches]
    assert [batch.position for batch in batches] == [0] * (len(batches) - 1) + [1]
    assert counts == [5, 5, 2, 1] and sum(counts[:-1]) == len(batches[0].grid.origins)
    image = np.asarray(Image.open(io.BytesIO(contents[0])))
    tiles = np.concatenate([batch.pixels for batch in batches[:-1]])
    for (top, left), tile in zip(batches[0].grid.origins, tiles, strict=True):
        inside = image[top : top + 16, left : left + 24]
        assert (tile[: inside.shape[0], : inside.shape[1]] == inside).all()


def test_the_scale_is_that_of_the_pixels_which_are_cut():
    config = CONFIG.model_copy(update={"scale": 0.4})
    batches, rows = read([picture(0)], InProcess(config), config=config)
    assert [len(batch.pixels) for batch in batches] == [1] and rows["width"].to_pylist() == [61]


@pytest.mark.parametrize("children", [2, 3])
def test_several_children_give_the_same_in_the_same_order(dangerous, tmp_path, monkeypatch, children):
    contents = [
        picture(0),
        b"junk",
        Fault("gone", "x"),
        b"exit",
        picture(1, (7, 5)),
        picture(2, (90, 200)),
        picture(3),
        b"hang",
    ]
    wanted, rows = read(contents, dangerous)
    decode = installed(tmp_path, f"dangerous_tiles_{tmp_path.name}", monkeypatch)
    several = [InChild(CONFIG, 0.6, decode) for _ in range(children)]
    for _ in range(2):
        found, found_rows = read(contents, several)
        assert found_rows.equals(rows) and len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert one.position == other.position and one.grid == other.grid and (one.pixels == other.pixels).all()
    for child in several:
        child.close()
    assert rows["error"].to_pylist() == [None, "not_an_image", "gone", "decoder_crashed", None, None, None, "decoder_timeout"]


class Together(InProcess):
    """Decodes only while another does too."""

    others = threading.Barrier(3)

    def open(self, encoded):
        self.others.wait(30)
        return super().open(encoded)


def test_several_decoders_decode_at_once():
    contents = [picture(seed) for seed in range(6)]
    found, _ = read(contents, [Together(CONFIG) for _ in range(3)])
    wanted, _ = read(contents, InProcess(CONFIG))
    assert [(one.pixels == other.pixels).all() for one, other in zip(found, wanted, strict=True)] == [True] * len(wanted)


def test_an_iteration_that_ends_early_leaves_no_thread_at_a_decoder():
    contents = [picture(seed, (90, 200)) for seed in range(5)]
    children = [InChild(CONFIG, 20) for _ in range(2)]
    before = set(threading.enumerate())
    for _ in range(2):
        batches = TiledUnit(table(contents), CONFIG, TILING, BATCH, children).batches()
        for _ in range(3):
            next(batches)
        assert set(threading.enumerate()) - before
        batches.close()
        assert not set(threading.enumerate()) - before
    found, _ = read(contents, children)
    wanted, _ = read(contents, InProcess(CONFIG))
    assert all((one.pixels == other.pixels).all() for one, other in zip(found, wanted, strict=True))
    for child in children:
        child.close()


def test_chosen_tiles_only():
    batches, _ = read([picture(0)], InProcess(CONFIG), chosen=lambda position, grid: np.array([1, 4]))
    (some,), (everything, *_) = batches, read([picture(0)], InProcess(CONFIG))[0]
    assert (some.pixels == everything.pixels[[1, 4]]).all()


@pytest.mark.parametrize(("deed", "error"), [(b"exit", "decoder_crashed"), (b"hang", "decoder_timeout"), (b"killed", None)])
def test_an_image_that_ends_the_child_or_hangs_costs_one_row(dangerous, deed, error):
    batches, rows = read([picture(0), deed, picture(1)], dangerous)
    assert rows["error"].to_pylist() == [None, error or "decoder_crashed", None]
    assert rows["stage"].to_pylist() == [None, "decode", None]
    wanted, _ = read([picture(0), picture(1)], InProcess(CONFIG))
    assert all((one.pixels == other.pixels).all() for one, other in zip(batches, wanted, strict=True))


def test_a_child_killed_from_outside_decodes_the_image_again(dangerous):
    dangerous.open(pa.py_buffer(picture(1)))
    unit = TiledUnit(table([b"once %d " % dangerous._decoder.pid + picture(7)]), CONFIG, TILING, BATCH, [dangerous])
    found = []
    for batch in unit.batches():
        found.append(batch.pixels)
        process = psutil.Process(dangerous._decoder.pid)
        process.kill()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    wanted, _ = read([picture(7)], InProcess(CONFIG))
    assert (np.concatenate(found) == np.concatenate([batch.pixels for batch in wanted])).all()
    assert unit.rows()["error"].to_pylist() == [None]


def test_shared_memory_holds_a_batch_and_not_the_image(monkeypatch):
    """A picture of 6 MB reaches this process 5 tiles at a time; the largest shared file is the encoded image."""
    sizes = []
    monkeypatch.setattr(decode_tiles.Decoder, "_answer", _remembering(decode_tiles.Decoder._answer, sizes))
    content = io.BytesIO()
    Image.new("RGB", (2000, 1000), (9, 9, 9)).save(content, "PNG")
    child = InChild(CONFIG, 20)
    batches, _ = read([content.getvalue()], child)
    child.close()
    assert len(batches) > 800 and max(sizes) < max(len(content.getvalue()), BATCH * 16 * 24 * 3) + 100


def _remembering(answer, sizes):
    def wrapped(self, timeout_s, mark):
        import os

        sizes.append(os.fstat(self._memory).st_size)
        return answer(self, timeout_s, mark)

    return wrapped


def test_an_image_over_the_limit_of_memory_costs_one_row():
    content = io.BytesIO()
    Image.new("RGB", (9000, 9000), (9, 9, 9)).save(content, "PNG")
    config = CONFIG.model_copy(update={"max_decode_bytes": 256 << 20})
    child = InChild(config, 20)
    batches, rows = read([picture(0), content.getvalue(), picture(1)], child, config=config)
    child.close()
    assert rows["error"].to_pylist() == [None, "too_much_memory", None]
    assert {batch.position for batch in batches} == {0, 2}
