"""A mask in a config: what it keeps, how it lies on pictures and inputs of other sizes, and what is refused."""

import base64
import zlib

import numpy as np
import pytest
from pydantic import ValidationError

from models.config import ArtifactConfig, InputConfig
from models.roi.region import LARGEST_TEXT, RegionOfInterest, cells_inside, inside, touched


def ellipse(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return ((rows / height - 0.4) / 0.3) ** 2 + ((columns / width - 0.5) / 0.45) ** 2 < 1


@pytest.mark.parametrize("shape", [(5, 7), (9, 8), (300, 400)])
def test_a_mask_comes_back_from_the_config_as_it_was(shape):
    mask = ellipse(*shape)
    config = InputConfig(roi=RegionOfInterest.of(mask))
    again = InputConfig.model_validate_json(config.model_dump_json())
    assert again == config and (again.roi.mask() == mask).all()
    assert again.roi.share == mask.mean() and not again.roi.mask().flags.writeable


def test_a_config_without_a_region_is_written_as_before_there_were_any():
    written = ArtifactConfig(name="tile").model_dump(mode="json")["input"]
    assert written == {**InputConfig().model_dump(), "white_level": 65535} and "roi" not in written


def test_a_picture_of_the_masks_size_gets_the_mask_and_another_its_middles():
    mask = ellipse(40, 60)
    region = RegionOfInterest.of(mask)
    assert (region.at_size(40, 60) == mask).all()
    assert (region.at_size(120, 180) == mask.repeat(3, 0).repeat(3, 1)).all()
    third = RegionOfInterest.of(mask.repeat(3, 0).repeat(3, 1))
    assert (third.at_size(40, 60) == mask).all()


def test_the_share_of_the_input_is_the_masks_and_padding_is_outside():
    region = RegionOfInterest.of(ellipse(300, 400))
    for size in ((64, 64), (32, 96), (500, 700)):
        counted = inside(InputConfig(height=size[0], width=size[1], roi=region))
        assert counted.shape == size and abs(counted.mean() - region.share) < 0.02
    padded = inside(InputConfig(height=64, width=64, resize="pad", roi=region))
    assert abs(padded.mean() - 0.75 * region.share) < 0.02 and not padded[:8].any() and not padded[56:].any()
    assert inside(InputConfig()) is None and cells_inside(InputConfig(), (4, 4)) is None


def test_a_pixel_of_the_input_counts_from_half_of_it_on():
    mask = np.zeros((8, 8), bool)
    mask[:, :3] = True  # three eighths: 1.5 of 4 columns
    counted = inside(InputConfig(height=16, width=16, roi=RegionOfInterest.of(mask.repeat(8, 0).repeat(8, 1))))
    assert counted.all(0).tolist() == [True] * 6 + [False] * 10
    mask = np.zeros((32, 32), bool)
    mask[0, 0] = mask[4:6, 4] = True  # a quarter and a half of a pixel
    assert np.argwhere(inside(InputConfig(height=16, width=16, roi=RegionOfInterest.of(mask)))).tolist() == [[2, 2]]


def test_a_cell_counts_if_any_of_its_pixels_does():
    pixels = np.zeros((10, 10), bool)
    pixels[0, 0] = pixels[4, 9] = True
    assert touched(pixels, (5, 5)).sum() == 2 and touched(pixels, (5, 5))[2, 4]
    assert touched(pixels, (3, 3))[1, 2] and touched(pixels, (1, 1)).all()


def test_pictures_of_another_shape_do_not_fit():
    region = RegionOfInterest.of(ellipse(300, 400))
    assert region.fits(600, 800) and region.fits(47, 63) and not region.fits(400, 300) and not region.fits(300, 300)


def test_what_is_no_mask_is_refused():
    good = RegionOfInterest.of(ellipse(30, 40)).model_dump()
    packed = base64.b64decode(good["pixels"])
    for changed, said in (
        ({"pixels": "no base64"}, "must hold a deflated mask"),
        ({"pixels": base64.b64encode(b"no deflate").decode()}, "must hold a deflated mask"),
        ({"pixels": base64.b64encode(packed[:-9]).decode()}, "must hold 30 x 40 pixels"),
        ({"pixels": base64.b64encode(zlib.compress(bytes(1 << 22))).decode()}, "must hold 30 x 40 pixels"),
        ({"height": 31}, "must hold 31 x 40 pixels"),
        ({"height": 29}, "must hold 29 x 40 pixels"),
        ({"height": 1 << 20, "width": 1 << 20}, "at most"),
        ({"pixels": base64.b64encode(zlib.compress(bytes(150))).decode()}, "must have a pixel inside"),
    ):
        with pytest.raises(ValidationError, match=said):
            RegionOfInterest.model_validate(good | changed)
    with pytest.raises(ValueError, match=f"at most {LARGEST_TEXT}"):
        RegionOfInterest.of(np.random.default_rng(0).random((1500, 1500)) < 0.5)


def test_tiles_have_no_region():
    with pytest.raises(ValidationError, match="roi must be left out for a model that scores by tiles"):
        InputConfig(resize="tile", roi=RegionOfInterest.of(ellipse(30, 40)))
