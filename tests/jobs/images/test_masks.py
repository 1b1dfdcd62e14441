"""A mask file written in every way that people do: the defect pixels are those drawn, or a sentence says why not.

What is right is what was drawn; tifffile and OpenCV write what Pillow cannot.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from jobs.images.mask_levels import MaskError
from jobs.images.masks import read_mask

Pixels = NDArray[np.bool_]
Write = Callable[[Pixels, Path], object]

DRAWN = np.zeros((60, 90), bool)
DRAWN[20:40, 30:55] = True
DRAWN[44:52, 60:84] = True


def grey(pixels: Pixels, value: int, kind: type = np.uint8) -> NDArray:
    return (pixels * value).astype(kind)


def png(of: Callable[[Pixels], NDArray], mode: str | None = None) -> Write:
    def write(pixels: Pixels, path: Path) -> None:
        image = Image.fromarray(of(pixels))
        (image.convert(mode) if mode else image).save(path, "PNG")

    return write


def value(of: int) -> Write:
    return png(lambda pixels: grey(pixels, of))


def opencv(suffix: str, of: Callable[[Pixels], NDArray]) -> Write:
    return lambda pixels, path: path.write_bytes(cv2.imencode(suffix, of(pixels))[1].tobytes())


def tiff(of: Callable[[Pixels], NDArray], **options: Any) -> Write:
    return lambda pixels, path: tifffile.imwrite(path, of(pixels), **options)


def colour(red: int, green: int, blue: int, background: tuple[int, int, int] = (0, 0, 0)) -> Callable[[Pixels], NDArray]:
    return lambda pixels: np.where(pixels[:, :, None], (red, green, blue), background).astype(np.uint8)


def with_alpha(inside: tuple[int, ...], outside: tuple[int, ...]) -> Write:
    return png(lambda pixels: np.where(pixels[:, :, None], inside, outside).astype(np.uint8))


def palette(colours: list[int], indices: Callable[[Pixels], NDArray], **options: Any) -> Write:
    def write(pixels: Pixels, path: Path) -> None:
        image = Image.fromarray(indices(pixels), "P")
        image.putpalette(colours)
        image.save(path, "PNG", **options)

    return write


def saved(name: str, of: Callable[[Pixels], NDArray], **options: Any) -> Write:
    return lambda pixels, path: Image.fromarray(of(pixels)).save(path, name, **options)


def classes(pixels: Pixels, values: tuple[int, int]) -> NDArray:
    left = pixels & (np.arange(pixels.shape[1]) < 58)
    return np.where(left, values[0], grey(pixels, values[1])).astype(np.uint8)


def smooth(pixels: Pixels, top: int = 255, sigma_px: float = 1) -> NDArray:
    return np.round(ndimage.gaussian_filter(pixels.astype(float), sigma_px) * top).astype(np.uint8)


def once_jpeg(pixels: Pixels, quality: int = 60) -> NDArray:
    file = io.BytesIO()
    Image.fromarray(grey(pixels, 255)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


READ: dict[str, tuple[str, Write]] = {
    **{f"grey 0/{of}": ("binary", value(of)) for of in (255, 254, 128, 127, 100, 37, 2, 1)},
    "1 bit": ("binary", png(lambda pixels: grey(pixels, 255), "1")),
    "16 bits, 0/65535": ("binary", opencv(".png", lambda pixels: grey(pixels, 65535, np.uint16))),
    "16 bits, 0/300": ("binary", opencv(".png", lambda pixels: grey(pixels, 300, np.uint16))),
    "16 bits, 0/1": ("binary", opencv(".png", lambda pixels: grey(pixels, 1, np.uint16))),
    "TIFF of bool": ("binary", tiff(lambda pixels: pixels)),
    "TIFF of bool, white is 0": ("binary", tiff(lambda pixels: ~pixels, photometric="miniswhite", software="other")),
    "TIFF of 8 bits, white is 0": ("binary", tiff(lambda pixels: ~grey(pixels, 255), photometric="miniswhite")),
    "TIFF of 16 bits, white is 0": ("binary", tiff(lambda p: ~grey(p, 65535, np.uint16), photometric="miniswhite")),
    "TIFF, big-endian, 0/1": ("binary", tiff(lambda pixels: grey(pixels, 1, np.uint16), byteorder=">")),
    "TIFF of int32": ("binary", tiff(lambda pixels: grey(pixels, 70000, np.int32))),
    "TIFF of float, 0/1": ("binary", tiff(lambda pixels: pixels.astype(np.float32))),
    "TIFF of float, 0/255": ("binary", tiff(lambda pixels: grey(pixels, 255, np.float32))),
    "TIFF, tiles, deflate": ("binary", tiff(lambda pixels: grey(pixels, 9), tile=(32, 32), compression="zlib")),
    "BMP": ("binary", saved("BMP", lambda pixels: grey(pixels, 100))),
    "BMP, blue": ("binary", saved("BMP", colour(0, 0, 255))),
    "red": ("binary", png(colour(255, 0, 0))),
    "dark green": ("binary", png(colour(0, 60, 0))),
    "palette, VOC": ("binary", palette([0, 0, 0, 128, 0, 0], lambda pixels: grey(pixels, 1))),
    "palette, grey": ("binary", png(lambda pixels: grey(pixels, 255), "P")),
    "palette, background last": ("binary", palette([0, 99, 0, 0, 0, 0], lambda pixels: grey(~pixels, 1))),
    "palette, two classes": ("classes", palette([0, 0, 0, 255, 0, 0, 0, 255, 0], lambda pixels: classes(pixels, (1, 2)))),
    "palette, transparent": ("binary", palette([9, 9, 9, 0, 0, 7], lambda pixels: grey(pixels, 1), transparency=0)),
    "RGBA, opaque": ("binary", with_alpha((255, 255, 255, 255), (0, 0, 0, 255))),
    "RGBA, white by alpha": ("binary", with_alpha((255, 255, 255, 255), (255, 255, 255, 0))),
    "RGBA, red on transparent": ("binary", with_alpha((200, 0, 0, 255), (0, 0, 0, 0))),
    "RGBA, half transparent": ("binary", with_alpha((255, 0, 0, 128), (0, 0, 0, 0))),
    "RGBA, class 1, half transparent": ("binary", with_alpha((1, 0, 0, 90), (0, 0, 0, 0))),
    "LA": ("binary", with_alpha((1, 255), (0, 255))),
    "two colours": ("classes", png(lambda p: np.dstack([classes(p, (255, 0)), classes(p, (0, 255)), grey(p, 0)]))),
    "numbers of classes": ("classes", png(lambda pixels: classes(pixels, (1, 3)))),
    "numbers of classes and 255": ("classes", png(lambda pixels: classes(pixels, (1, 255)))),
    "values of classes": ("classes", png(lambda pixels: classes(pixels, (90, 255)))),
    "LOCO's values": ("classes", png(lambda pixels: classes(pixels, (249, 255)))),
    "JPEG": ("lossy", saved("JPEG", lambda pixels: grey(pixels, 255), quality=75)),
    "JPEG, 0/100": ("lossy", saved("JPEG", lambda pixels: grey(pixels, 100), quality=90)),
    "JPEG, red": ("lossy", saved("JPEG", colour(255, 0, 0), quality=95, subsampling=0)),
    "JPEG, progressive": ("lossy", saved("JPEG", lambda pixels: grey(pixels, 255), quality=90, progressive=True)),
    "PNG that was a JPEG": ("grey", png(once_jpeg)),
    "PNG that was a JPEG, background 1": ("grey", png(lambda pixels: once_jpeg(pixels, 70))),
    "smooth edges": ("grey", png(smooth)),
    "smooth edges, 16 bits": ("grey", opencv(".png", lambda pixels: smooth(pixels).astype(np.uint16) * 257)),
    "smooth edges, red": ("grey", png(lambda p: np.dstack([smooth(p), grey(p, 0), grey(p, 0)]))),
    "smooth edges, float": ("grey", tiff(lambda pixels: (smooth(pixels) / 255).astype(np.float32))),
    "nothing": ("empty", value(0)),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read(name: str, tmp_path: Path) -> None:
    kind, write = READ[name]
    path = tmp_path / "mask"
    write(DRAWN, path)
    found = read_mask(path)
    expected = DRAWN & (name != "nothing")
    if kind == "grey":
        expected = expected if "JPEG" in name else smooth(DRAWN) >= 128
    assert found.kind == kind
    assert np.array_equal(found.pixels, expected)


def test_a_mask_of_the_whole_image_may_have_one_value(tmp_path: Path) -> None:
    value(255)(np.ones((20, 30), bool), tmp_path / "mask")
    assert read_mask(tmp_path / "mask").pixels.all()


@pytest.mark.parametrize("pixel", [(0, 0, 0, 0), (255, 255, 255, 0), (0, 0, 0, 255)])
def test_an_empty_mask_may_be_transparent(pixel: tuple[int, ...], tmp_path: Path) -> None:
    with_alpha(pixel, pixel)(DRAWN, tmp_path / "mask")
    assert read_mask(tmp_path / "mask").kind == "empty"


def test_an_orientation_of_its_own_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for name in ("PNG", "JPEG"):
        Image.fromarray(grey(DRAWN, 255)).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "mask", name, exif=exif)
        found = read_mask(tmp_path / "mask")
        assert found.upright and np.array_equal(found.pixels, DRAWN)


def test_what_is_left_out_of_grey_masks_is_counted(tmp_path: Path) -> None:
    levels = smooth(DRAWN)
    levels[5, 5:25] = 90  # thin, so that it looks like an edge
    Image.fromarray(levels).save(tmp_path / "mask", "PNG")
    assert read_mask(tmp_path / "mask").faint == 1


def test_pixels_of_a_jpeg_near_the_threshold_are_counted(tmp_path: Path) -> None:
    saved("JPEG", lambda pixels: smooth(pixels, sigma_px=0.6), quality=95)(DRAWN, tmp_path / "mask")
    levels = np.asarray(Image.open(tmp_path / "mask")).astype(float)
    near = (levels >= levels.max() / 4) & (levels < levels.max() * 3 / 4)
    assert 0 < read_mask(tmp_path / "mask").unsure == near.sum()


def cut(write: Write) -> Write:
    def half(pixels: Pixels, path: Path) -> None:
        write(pixels, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return half


def photograph(pixels: Pixels) -> NDArray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(pixels.shape), 2) * 150 + 128
    return np.clip(noise, 0, 255).astype(np.uint8)


REFUSED: dict[str, tuple[str, Write]] = {
    "half a PNG": ("can be read", cut(png(photograph))),
    "half a JPEG": ("can be read", cut(saved("JPEG", photograph))),
    "half a TIFF": ("can be read", cut(tiff(photograph))),
    "half a BMP": ("can be read", cut(saved("BMP", photograph))),
    "no bytes": ("can be read", lambda pixels, path: path.write_bytes(b"")),
    "text": ("can be read", lambda pixels, path: path.write_text("polygon 1 2 3 4")),
    "GIF": ("can be read", saved("GIF", lambda pixels: grey(pixels, 255))),
    "pages": ("can be read", tiff(lambda pixels: np.stack([grey(pixels, 255)] * 3), photometric="minisblack")),
    "RGB of 16 bits": ("16 bits", opencv(".png", lambda pixels: colour(255, 0, 0)(pixels).astype(np.uint16))),
    "TIFF, RGB of 16 bits": ("16 bits", tiff(lambda p: colour(255, 0, 0)(p).astype(np.uint16), photometric="rgb")),
    "CMYK": ("mode CMYK", tiff(lambda p: np.dstack([grey(p, 255)] * 4), photometric="separated")),
    "negative": ("negative", tiff(lambda pixels: -grey(pixels, 1, np.int32))),
    "not a number": ("negative", tiff(lambda pixels: np.where(pixels, np.nan, 0).astype(np.float32))),
    "black by alpha": ("black", with_alpha((0, 0, 0, 255), (0, 0, 0, 0))),
    "black in transparent white": ("black", with_alpha((0, 0, 0, 255), (255, 255, 255, 0))),
    "a hole": ("black", with_alpha((255, 255, 255, 0), (0, 0, 0, 255))),
    "wholly transparent": ("alpha", with_alpha((255, 255, 255, 0), (0, 0, 0, 0))),
    "red on white": ("no black pixel", png(colour(255, 0, 0, (255, 255, 255)))),
    "JPEG, red on white": ("no black pixel", saved("JPEG", colour(255, 0, 0, (255, 255, 255)), quality=95)),
    "red on grey": ("no black pixel", png(colour(255, 0, 0, (90, 90, 90)))),
    "1 and 2": ("no black pixel", png(lambda pixels: grey(pixels, 1) + 1)),
    "127 and 255": ("no black pixel", png(lambda pixels: grey(pixels, 128) + 127)),
    "palette, all black": ("palette", palette([0, 0, 0, 0, 0, 0], lambda pixels: grey(pixels, 1))),
    "smooth edges up to 100": ("up to 100", png(lambda pixels: smooth(pixels, 100))),
    "smooth edges up to 128": ("up to 128", png(lambda pixels: smooth(pixels, 128))),
    "classes with smooth edges": ("not both", png(lambda p: np.maximum(smooth(p, sigma_px=3), grey(np.roll(p, -18, 0), 90)))),
    "nearly black areas": ("nearly black", png(lambda p: np.maximum(smooth(p), grey(np.roll(p, -18, 0), 9)))),
    "photograph": ("photograph", png(photograph)),
    "photograph in colour": ("photograph", png(lambda p: np.dstack([photograph(p)] * 3))),
    "JPEG, photograph": ("photograph", saved("JPEG", photograph)),
    "JPEG, 0/1": ("largest is", saved("JPEG", lambda pixels: grey(pixels, 4), quality=95)),
    "JPEG of classes": ("JPEG", saved("JPEG", lambda pixels: classes(pixels, (255, 90)), quality=95)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    words, write = REFUSED[name]
    path = tmp_path / "mask"
    write(DRAWN, path)
    with pytest.raises(MaskError) as refused:
        read_mask(path)
    assert str(refused.value).startswith(f"{path} must be a mask ") and words in str(refused.value)


def test_a_mask_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mask").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MaskError, match="No such file"):
        read_mask(tmp_path / "mask")
