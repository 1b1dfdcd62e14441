"""Decodes JPEGs on the GPU that scores, and resizes and measures them there. Not yet run on a GPU.

Pixels differ from those of pipeline/decode/image.py: nvJPEG has another inverse transform and other chroma, nothing is
reduced while it is decoded, and the resize computes in float32. So this is a scoring setting of its own.
"""

import platform
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.io import encode_jpeg

from models.maps.content_box import content_box
from pipeline.decode.config import DecodeConfig
from pipeline.decode.exchange import DecodedRow
from pipeline.decode.image import mean_variance
from pipeline.decode.process import decode_in_child
from pipeline.decode.unit import Decoded, decoded_table
from pipeline.scoring.device import Device
from pipeline.scoring.device_calls import on_device
from pipeline.scoring.faults import ScoringError
from pipeline.scoring.nvjpeg import on_cuda, refused
from pipeline.scoring.watchdog import LONG_S, Watchdog, over
from schemas.encoded import IDENTITY

Result = TypeVar("Result")

CHUNK_PIXELS = 1 << 27
"""Pixels of the pictures that are on the device at once: 0.4 GB, and 1.6 GB in float32 for the largest that is allowed."""

GREY = (19595, 38470, 7471)  # Pillow's weights of red, green and blue, in 65536ths
FIRST_SIDE_PX, FIRST_LEVEL, TOLERANCE = 16, 128, 2


class Brought(NamedTuple):
    """A picture at the input's size, levels (H, W, 3) uint8, and its statistics."""

    levels: np.ndarray
    brightness: float
    contrast: float
    sharpness: float


class DeviceDecoder:
    """Args:
    timeout_s: for an image that the device leaves to the CPU.
    watch: told when the device has work; it notices a device that hangs.
    decode: JPEGs, each (bytes,) uint8 on the CPU, to (3, h, w) uint8 on the device; fails as `nvjpeg.refused` knows it.
    """

    def __init__(
        self,
        config: DecodeConfig,
        timeout_s: float,
        device: Device = "cuda",
        watch: Watchdog | None = None,
        decode: Callable[[list[Tensor]], list[Tensor]] = on_cuda,
    ) -> None:
        self._config, self._timeout_s, self._device, self._watch, self._decode = config, timeout_s, device, watch, decode

    def check(self) -> None:
        """Decodes a small grey picture: without nvJPEG every image would be the CPU's, under the name of the device's pixels.

        Raises ScoringError if that fails, and DeviceFault.
        """
        grey = torch.full((3, FIRST_SIDE_PX, FIRST_SIDE_PX), FIRST_LEVEL, dtype=torch.uint8)

        def is_grey() -> bool:
            (found,) = self._decoded([encode_jpeg(grey).numpy().tobytes()])
            if found is None or found.shape != grey.shape:
                return False
            return int((found.int() - FIRST_LEVEL).abs().max()) <= TOLERANCE

        try:
            wrong = "" if self._on_device(is_grey) else "it refuses a plain grey JPEG, or gives other pixels"
        except RuntimeError as error:
            said = str(error).partition("\n")[0]
            raise ScoringError(f"decoder 'cuda' does not work on node {platform.node()}; torchvision says: {said}") from error
        if wrong:
            raise ScoringError(f"decoder 'cuda' does not work on node {platform.node()}: {wrong}")

    def __call__(self, table: pa.Table, pixels: np.ndarray) -> Decoded:
        """The whole unit, as `decode_unit` gives it, from what `sorted_for_device` gives. An image that the device refuses is
        decoded by the CPU.

        Raises DeviceFault and DecoderUnavailable.
        """
        config = self._config
        rows = [DecodedRow(**row) for row in table.select(DecodedRow._fields).to_pylist()]
        whole = np.zeros((table.num_rows, config.height, config.width, 3), np.uint8)
        encoded = {at: cell.as_py() for at, cell in enumerate(table["encoded"]) if cell.is_valid}
        whole[[at for at, row in enumerate(rows) if row.error is None and at not in encoded]] = pixels
        left_over = []
        for chunk in _chunks(list(encoded), rows):
            images, theirs = [encoded[at] for at in chunk], [rows[at] for at in chunk]
            for at, brought in zip(chunk, self._on_device(partial(self._pictures, images, theirs)), strict=True):
                if brought is None:
                    left_over.append(at)
                    continue
                whole[at], brightness, contrast, sharpness = brought
                rows[at] = rows[at]._replace(brightness=brightness, contrast=contrast, sharpness=sharpness)
        identity = [field.name for field in IDENTITY]
        if left_over:
            left = decode_in_child(table.select([*identity, "encoded"]).take(left_over), config, self._timeout_s)
            whole[left_over] = left.pixels
            for at, cells in zip(left_over, left.table.select(DecodedRow._fields).to_pylist(), strict=True):
                rows[at] = DecodedRow(**cells)
        return Decoded(whole, decoded_table(table.select(identity), rows))

    def _on_device(self, work: Callable[[], Result]) -> Result:
        """Only what the device does is watched: the CPU's child has its own limits."""
        with over(self._watch, "decoding pictures", LONG_S):
            return on_device(work, self._device, "pictures to decode")

    def _pictures(self, images: Sequence[bytes], rows: Sequence[DecodedRow]) -> list[Brought | None]:
        """None for those that the device refuses, or gives another size than the CPU found."""
        pictures: list[Brought | None] = []
        for picture, row in zip(self._decoded(images), rows, strict=True):
            assert row.width is not None and row.height is not None
            if picture is None or picture.shape != (3, row.height, row.width):
                pictures.append(None)
                continue
            levels = self._brought(picture, (row.width, row.height))
            pictures.append(Brought(levels.cpu().numpy(), *statistics(levels)))
        return pictures

    def _decoded(self, images: Sequence[bytes]) -> list[Tensor | None]:
        """(3, h, w) uint8 each, None for those that the device refuses: a call gives all or nothing."""
        try:
            return list(self._decode([torch.frombuffer(bytearray(image), dtype=torch.uint8) for image in images]))
        except RuntimeError as error:
            if not refused(error):
                raise
            if len(images) == 1:
                return [None]
        middle = len(images) // 2
        return self._decoded(images[:middle]) + self._decoded(images[middle:])

    def _brought(self, picture: Tensor, stored: tuple[int, int]) -> Tensor:
        """(3, h, w) uint8 to the input's (H, W, 3) uint8, as the CPU's resize but in float32."""
        config, box = self._config, content_box(stored, self._config)
        levels = picture[None].float()
        if stored != (box.width, box.height):
            size = box.height, box.width
            levels = F.interpolate(levels, size=size, mode="bilinear", align_corners=False, antialias=True)
        levels = F.pad(levels, (box.left, config.width - box.right, box.top, config.height - box.bottom), mode="replicate")
        return levels.round().clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0)  # (H, W, 3)


def statistics(levels: Tensor) -> tuple[float, float, float]:
    """Brightness, contrast and sharpness of (H, W, 3) uint8: exactly those of pipeline/decode/image.py, on its device."""
    red, green, blue = levels.to(torch.int32).unbind(2)
    grey = (GREY[0] * red + GREY[1] * green + GREY[2] * blue + 0x8000) >> 16
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    sums = torch.stack([part for values in (grey, edges) for part in (values.sum(), values.square().sum())])
    total, squares, edge_total, edge_squares = map(int, sums.tolist())
    brightness, contrast = mean_variance(grey.numel(), total, squares)
    sharpness = mean_variance(edges.numel(), edge_total, edge_squares)[1] if edges.numel() else 0.0
    return brightness, contrast**0.5, sharpness


def _chunks(positions: list[int], rows: list[DecodedRow]) -> Iterator[list[int]]:
    """The positions in order, with at most CHUNK_PIXELS in a chunk of several."""
    chunk: list[int] = []
    pixels = 0
    for at in positions:
        width, height = rows[at].width, rows[at].height
        assert width is not None and height is not None
        if chunk and pixels + width * height > CHUNK_PIXELS:
            yield chunk
            chunk, pixels = [], 0
        chunk.append(at)
        pixels += width * height
    if chunk:
        yield chunk
