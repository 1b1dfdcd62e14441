"""A unit decoded on the device, with a decoder of the CPU in the place of nvJPEG: there is no GPU in tests."""

import contextlib

import numpy as np
import pytest
import simplejpeg
import torch
from dangerous_decoders import table
from made_pictures import picture
from PIL import Image

from pipeline.decode.config import DecodeConfig
from pipeline.decode.for_device import sorted_for_device
from pipeline.decode.image import grey_statistics
from pipeline.decode.process import decode_in_child
from pipeline.decode.unit import decode_unit
from pipeline.input.encoded_rows import Fault
from pipeline.scoring import device_decoder
from pipeline.scoring.device_decoder import DeviceDecoder, statistics
from pipeline.scoring.faults import DeviceFault, ScoringError

CONFIG = DecodeConfig(height=40, width=48, resize="pad", decoder="cuda")
SIZES = [(90, 60), (48, 40), (30, 20), (60, 90), (200, 41), (64, 64)]
CONTENTS = [picture(size=size, quality=95) for size in SIZES]


REFUSED = RuntimeError("Error while decoding JPEG images: Failed to decode jpeg stream: 4")


class StandIn:
    """Decodes all of a call or none, as torchvision does. refuses: content for which there is the error."""

    def __init__(self, refuses=(), error=REFUSED):
        self.refuses, self.error, self.calls = refuses, error, []

    def __call__(self, encoded):
        images = [bytes(image.numpy()) for image in encoded]
        self.calls.append(len(images))
        if any(image in self.refuses for image in images):
            raise self.error
        return [torch.from_numpy(simplejpeg.decode_jpeg(image, "RGB")).permute(2, 0, 1) for image in images]


def decoded(contents, stand_in, config=CONFIG):
    found = sorted_for_device(table(contents, "jpg"), config, 20)
    return DeviceDecoder(config, 20, decode=stand_in)(found.table, found.pixels)


@pytest.mark.parametrize("resize", ["pad", "squash"])
def test_a_unit_has_nearly_the_pixels_and_all_the_rows_that_the_cpu_gives(resize):
    config = CONFIG.model_copy(update={"resize": resize})
    contents = [*CONTENTS, picture("PNG"), b"junk", Fault("gone", "x"), picture(mode="L"), CONTENTS[0][:-200]]
    wanted, found = decode_unit(table(contents, "jpg"), config), decoded(contents, StandIn(), config)
    difference = np.abs(found.pixels.astype(int) - wanted.pixels)
    assert found.pixels.shape == wanted.pixels.shape and difference.max() <= 1
    assert not difference[6].any(), "the CPU's own"
    for name in ("uri", "width", "height", "captured_at", "stage", "error", "message"):
        assert found.table[name].equals(wanted.table[name]), name
    assert found.table.schema == wanted.table.schema
    for pixels, row in zip(found.pixels, found.table.to_pylist(), strict=True):
        if row["error"] is None:
            grey = np.asarray(Image.fromarray(pixels).convert("L"))
            assert (row["brightness"], row["contrast"], row["sharpness"]) == pytest.approx(grey_statistics(grey), rel=1e-6)


def test_what_the_device_refuses_is_decoded_by_the_cpu():
    stand_in = StandIn(refuses=(CONTENTS[1], CONTENTS[4]))
    wanted, found = decode_unit(table(CONTENTS, "jpg"), CONFIG), decoded(CONTENTS, stand_in)
    assert found.table["error"].null_count == len(CONTENTS)
    assert (found.pixels[[1, 4]] == wanted.pixels[[1, 4]]).all()
    assert found.table.slice(1, 1).equals(wanted.table.slice(1, 1))
    plain = decoded(CONTENTS, StandIn())
    assert (found.pixels[[0, 2, 3, 5]] == plain.pixels[[0, 2, 3, 5]]).all(), "the others are the device's"


def test_a_picture_of_another_size_is_not_believed():
    def half(encoded):
        return [image[:, ::2] for image in StandIn()(encoded)]

    assert (decoded(CONTENTS, half).pixels == decode_unit(table(CONTENTS, "jpg"), CONFIG).pixels).all()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: misaligned address"),
        RuntimeError("Error while decoding JPEG images: CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("Error while decoding JPEG images: Failed to decode batch: 6"),
        RuntimeError("Error while decoding JPEG images: Failed to synchronize CUDA stream: 700"),
    ],
    ids=str,
)
def test_a_fault_of_the_device_is_not_one_of_an_image(error):
    with pytest.raises(DeviceFault, match="^cuda"):
        decoded(CONTENTS, StandIn(CONTENTS, error))


def test_lack_of_memory_is_tried_once_more():
    stand_in, calls = StandIn(), []

    def decode(encoded):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("Error while decoding JPEG images: Failed to decode batch: 5")
        return stand_in(encoded)

    assert decoded(CONTENTS, decode).table["error"].null_count == len(CONTENTS) and len(calls) == 2


def test_a_torchvision_without_nvjpeg_decodes_nothing():
    lacks = RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")
    with pytest.raises(RuntimeError, match="not compiled with nvJPEG"):
        decoded(CONTENTS, StandIn(CONTENTS, lacks))


def fails(error):
    def decode(encoded):
        raise error

    return decode


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (fails(RuntimeError("torchvision not compiled with nvJPEG support\nand so on")), "says: .* nvJPEG support$"),
        (fails(NotImplementedError("no kernel image::decode_jpegs")), "says: no kernel"),
        (fails(REFUSED), "refuses a plain grey JPEG"),
        (lambda encoded: [torch.zeros(3, 16, 16, dtype=torch.uint8)], "other pixels"),
        (lambda encoded: [torch.zeros(3, 8, 16, dtype=torch.uint8)], "other pixels"),
    ],
)
def test_a_decoder_that_does_not_work_is_found_before_it_meets_an_image(decode, said):
    with pytest.raises(ScoringError, match=f"decoder 'cuda' does not work on node .*{said}"):
        DeviceDecoder(CONFIG, 20, decode=decode).check()


def test_a_decoder_that_works_passes():
    DeviceDecoder(CONFIG, 20, decode=StandIn()).check()
    with pytest.raises(DeviceFault):
        DeviceDecoder(CONFIG, 20, decode=fails(RuntimeError("CUDA error: unspecified launch failure"))).check()


def test_only_the_device_is_watched(monkeypatch):
    """The CPU's child, which decodes what the device refuses, has a limit of its own for each image."""
    watched, seen = [], []

    class Watch:
        @contextlib.contextmanager
        def over(self, work, limit_s):
            watched.append(work)
            yield
            watched.pop()

    def in_child(*arguments):
        seen.append(len(watched))
        return decode_in_child(*arguments)

    def decode(encoded):
        seen.append(len(watched))
        return StandIn(CONTENTS[:1])(encoded)

    monkeypatch.setattr(device_decoder, "decode_in_child", in_child)
    found = sorted_for_device(table(CONTENTS[:1], "jpg"), CONFIG, 20)
    DeviceDecoder(CONFIG, 20, watch=Watch(), decode=decode)(found.table, found.pixels)
    assert seen == [1, 0]


def test_few_pixels_are_on_the_device_at_once(monkeypatch):
    monkeypatch.setattr(device_decoder, "CHUNK_PIXELS", 8000)
    stand_in = StandIn()
    found = decoded(CONTENTS, stand_in)
    assert stand_in.calls == [3, 1, 1, 1] and (found.pixels == decoded(CONTENTS, StandIn()).pixels).all()


@pytest.mark.parametrize("size", [(40, 48), (1, 1), (2, 9), (3, 3)])
def test_statistics_are_those_of_the_cpu(size):
    levels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert statistics(torch.from_numpy(levels)) == grey_statistics(np.asarray(Image.fromarray(levels).convert("L")))
