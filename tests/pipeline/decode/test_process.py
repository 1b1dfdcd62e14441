import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from dangerous_decoders import DECODER, installed, table
from PIL import Image

from pipeline.decode import process as decode_process
from pipeline.decode.config import DecodeConfig
from pipeline.decode.process import decode_in_child
from pipeline.decode.sealed import DecoderUnavailable
from pipeline.decode.unit import decode_unit
from pipeline.input.encoded_rows import Fault

ROOT = Path(__file__).parents[3]
FOLDERS = [str(Path(__file__).parent), str(ROOT / "tests")]  # of this file and of what it imports
CONFIG = DecodeConfig(height=24, width=32)


def picture(seed):
    sink = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0110] = "camera"
    exif.get_ifd(0x8769)[0x9003] = "2026:07:01 12:00:00"
    Image.fromarray(pixels).save(sink, "PNG", exif=exif)
    return sink.getvalue()


@pytest.fixture
def dangerous(tmp_path, monkeypatch):
    """A decoder that does to its process what the image says; gives `decode_in_child` with it."""
    name = installed(tmp_path, f"dangerous_{tmp_path.name}", monkeypatch)
    yield lambda contents, timeout_s=20.0, config=CONFIG: decode_in_child(table(contents), config, timeout_s, name)
    decoder = decode_process._decoders.pop(name, None)
    if decoder and decoder.usable():
        decoder.end()


def child_pid():
    return decode_process._decoders[decode_process.DECODE].pid


def test_it_gives_what_decode_unit_gives_in_the_same_child():
    contents = [picture(0), b"junk", Fault("gone", "x"), picture(1)]
    wanted = decode_unit(table(contents), CONFIG)
    pids = set()
    for _ in range(3):
        found = decode_in_child(table(contents), CONFIG, 20)
        assert found.table.equals(wanted.table) and (found.pixels == wanted.pixels).all()
        pids.add(child_pid())
    assert len(pids) == 1 and wanted.table["captured_at"][0].is_valid
    other = DecodeConfig(height=100, width=7)
    assert (decode_in_child(table(contents), other, 20).pixels == decode_unit(table(contents), other).pixels).all()
    assert decode_in_child(table([]), CONFIG, 20).pixels.shape == (0, 24, 32, 3)
    assert decode_in_child(table([Fault("gone", "x")]), CONFIG, 20).table["error"].to_pylist() == ["gone"]


@pytest.mark.parametrize(
    ("deed", "how", "where"),
    [
        *((b"segfault", "SIGSEGV", where) for where in ([0], [9], [3, 4], [0, 5, 9])),
        (b"exit", "exit code 3", [4]),
        (b"raise", "LookupError: odd tag", [4]),
    ],
)
def test_row_5_an_image_that_ends_the_decoder_costs_one_row(dangerous, deed, how, where):
    contents = [picture(number) for number in range(10)]
    for number in where:
        contents[number] = deed
    wanted = decode_unit(table(contents), CONFIG)
    found = dangerous(contents)
    rows = found.table.to_pylist()
    assert [number for number, row in enumerate(rows) if row["error"]] == where
    for number in where:
        assert (rows[number]["stage"], rows[number]["error"]) == ("decode", "decoder_crashed")
        assert how in rows[number]["message"]
    assert (found.pixels == wanted.pixels).all()
    assert [row["sharpness"] for row in rows] == wanted.table["sharpness"].to_pylist()


def test_row_5_all_images_end_the_decoder(dangerous):
    assert set(dangerous([b"exit"] * 5).table["error"].to_pylist()) == {"decoder_crashed"}


def test_an_image_that_hangs_costs_one_row(dangerous):
    found = dangerous([picture(0), b"hang", picture(1), b"slow " + picture(2), b"slow " + picture(3)], timeout_s=0.6)
    assert found.table["error"].to_pylist() == [None, "decoder_timeout", None, None, None]
    assert (found.pixels[[0, 2, 3, 4]] == decode_unit(table(picture(n) for n in range(4)), CONFIG).pixels).all()


def test_a_kill_from_outside_is_not_blamed_on_the_image_at_once(dangerous, tmp_path):
    dangerous([picture(0)])
    pid = decode_process._decoders[f"dangerous_{tmp_path.name}:decode"].pid
    once = b"once %d " % pid + picture(7)
    assert dangerous([picture(0), once, picture(1)]).table["error"].to_pylist() == [None] * 3
    assert dangerous([picture(0), b"killed", picture(1)]).table["error"].to_pylist() == [None, "decoder_crashed", None]


def large(side, form="PNG", mode="RGB"):
    sink = io.BytesIO()
    Image.new(mode, (side, side), (9, 9, 9, 255) if mode == "RGBA" else 9).save(sink, form)
    return sink.getvalue()


LITTLE = CONFIG.model_copy(update={"max_decode_bytes": 256 << 20})


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", "L"), ("PNG", "RGBA"), ("PNG", "I;16"), ("BMP", "RGB"), ("TIFF", "RGB"), ("JPEG", "CMYK")],
)
def test_an_image_over_the_limit_of_memory_costs_one_row_and_nobody_dies(form, mode):
    side = 16_000 if mode == "L" else 9_000  # 256 and 324 MB of pixels; the BMP's and TIFF's bytes are 243 MB themselves
    config = LITTLE.model_copy(update={"max_image_pixels": side * side})
    contents = [picture(0), large(side, form, mode), picture(1)]
    decode_in_child(table([picture(2)]), config, 20)
    pid = child_pid()
    found = decode_in_child(table(contents), config, 60)
    assert found.table["error"].to_pylist() == [None, "too_much_memory", None]
    assert "takes more memory than the decoder may have" in found.table["message"][1].as_py()
    assert (found.pixels[[0, 2]] == decode_unit(table([contents[0], contents[2]]), CONFIG).pixels).all()
    assert child_pid() == pid


def test_the_import_of_torch_is_no_pictures_time_or_memory(dangerous):
    """Its first import takes longer than the picture may, and more memory than it may."""
    contents = [picture(0), large(1500), picture(1)]
    found = dangerous(contents, timeout_s=0.5, config=LITTLE)
    assert found.table["error"].to_pylist() == [None] * 3
    assert (found.pixels == decode_unit(table(contents), CONFIG).pixels).all()
    again = dangerous(
        [large(9000, "TIFF"), large(1500)], timeout_s=60, config=LITTLE.model_copy(update={"max_image_pixels": 9000**2})
    )
    assert again.table["error"].to_pylist() == ["too_much_memory", None], "the limit stands after it"


def test_a_decoder_that_cannot_import_torch_is_no_fault_of_an_image(dangerous, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('half installed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DecoderUnavailable, match="half installed"):
        dangerous([large(1500)])


def test_the_limit_of_memory_is_that_of_each_call():
    contents = [large(6000, mode="RGBA")]
    for _ in range(3):  # what an image took is given back, or the next one would find it below its own limit
        for config, error in ((LITTLE, "too_much_memory"), (CONFIG, None)):
            assert decode_in_child(table(contents), config, 60).table["error"].to_pylist() == [error]
    assert decode_unit(table(contents), LITTLE).table["error"].to_pylist() == [None], "not in the caller's own process"


def test_what_the_default_number_of_pixels_takes_fits_the_default_memory():
    """25 bytes a pixel at most, plus what the process needs to live."""
    fields = DecodeConfig.model_fields
    assert fields["max_image_pixels"].default * 25 + (200 << 20) < fields["max_decode_bytes"].default


def test_a_child_that_died_while_idle_is_replaced():
    decode_in_child(table([picture(0)]), CONFIG, 20)
    first = child_pid()
    os.kill(first, 9)
    decode_process._decoders[decode_process.DECODE]._process._process.wait()
    assert decode_in_child(table([picture(0)]), CONFIG, 20).table["error"].to_pylist() == [None]
    assert child_pid() != first


def test_a_decoder_that_does_not_start_is_no_fault_of_an_image():
    with pytest.raises(DecoderUnavailable, match="No module named 'no_such_module'"):
        decode_in_child(table([picture(0)]), CONFIG, 20, "no_such_module:decode")


PARENT = """
import sys, time
from pathlib import Path
from pipeline.decode.config import DecodeConfig
from pipeline.decode import process as decode_process
sys.path[:0] = sys.argv[1:]
import test_process as t
decode_process.decode_in_child(t.table([t.picture(0)]), t.CONFIG, 20)
heavy = sorted({"torch", "ray"} & set(sys.modules))
print(t.child_pid(), heavy, flush=True)
time.sleep(1000)
"""


def test_the_child_ends_with_its_parent_and_imports_nothing_heavy():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *FOLDERS], stdout=subprocess.PIPE, cwd=ROOT, text=True)
    pid, heavy = parent.stdout.readline().split(" ", 1)
    child = psutil.Process(int(pid))
    assert heavy.strip() == "[]" and child.is_running()
    mapped = {Path(file.path).name for file in child.memory_maps()}
    assert not any("torch" in name or "raylet" in name for name in mapped)
    parent.kill()
    parent.wait()
    for _ in range(200):
        if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child outlives its parent")


LAST = """
import sys
sys.path[:0] = sys.argv[1:]
import test_process as t
from pipeline.decode.process import decode_in_child
print(decode_in_child(t.table([b"exit"]), t.CONFIG, 20, "last:decode").table["error"].to_pylist())
"""


def test_a_process_whose_last_image_ended_the_decoder_ends_without_a_word(tmp_path):
    (tmp_path / "last.py").write_text(DECODER)
    done = subprocess.run(
        [sys.executable, "-c", LAST, *FOLDERS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == ("['decoder_crashed']\n", "", 0)
