"""Synthetic defects: reproducible, visible, stronger with severity, on any shape of image."""

import docs_script
import numpy as np
import pytest
from scipy import ndimage

from models.alterations.picture import cut, padded
from models.fitting import synthetic
from models.maps.content_box import Box


def goods(count: int = 6, shape: tuple[int, int] = (64, 64), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((count, *shape)), (0, 2, 2)) * 120 + 128
    return np.clip(noise, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=3)


@pytest.mark.parametrize("shape", [(64, 64), (48, 96)])
@pytest.mark.parametrize("family", synthetic.FAMILIES)
def test_every_image_changes_and_the_seed_decides_how(family: str, shape: tuple[int, int]) -> None:
    images = goods(shape=shape)
    before = images.copy()
    made = synthetic.make(family, images, 1.0, seed=3)
    assert made.shape == images.shape and made.dtype == np.uint8
    assert all((a != b).any() for a, b in zip(made, images, strict=True))
    assert (images == before).all()
    assert (made == synthetic.make(family, images, 1.0, seed=3)).all()
    assert (made != synthetic.make(family, images, 1.0, seed=4)).any()


@pytest.mark.parametrize("family", synthetic.FAMILIES)
def test_severity_changes_more_pixels_or_changes_them_more(family: str) -> None:
    images = goods(12)

    def change(severity: float) -> float:
        made = synthetic.make(family, images, severity, seed=0)
        return float(np.abs(made.astype(np.float32) - images).sum())

    low, high = (change(severity) for severity in (synthetic.SEVERITY_LADDER[0], synthetic.SEVERITY_LADDER[-1]))
    assert high > 1.5 * low


def test_wide_defects_are_of_many_sizes():
    """The families that docs/benchmarks/accuracy/candidates.py draws with --wide."""
    wide = docs_script.load("benchmarks/accuracy/wide_defects.py")
    assert list(wide.FAMILIES) == list(synthetic.FAMILIES)
    goods = np.random.default_rng(0).integers(80, 160, (24, 96, 128, 3)).astype(np.uint8)
    for family in set(wide.FAMILIES) - {"uneven"}:
        made = synthetic.make(family, goods, 1.0, 0, wide.FAMILIES)
        assert made.shape == goods.shape and np.array_equal(made, synthetic.make(family, goods, 1.0, 0, wide.FAMILIES))
        areas = (made != goods).any(3).mean((1, 2))
        assert 0 < areas.min() and areas.max() > 4 * np.quantile(areas, 0.1), family


@pytest.mark.parametrize("family", synthetic.FAMILIES)
def test_only_pixels_that_count_are_changed(family: str) -> None:
    images, inside = goods(), np.zeros((64, 64), bool)
    inside[20:44, 10:40] = True
    made = synthetic.make(family, images, 1.0, seed=3, inside=inside)
    changed = (made != images).any(axis=3)
    assert not changed[:, ~inside].any() and changed[:, inside].any(1).all()
    assert (made == synthetic.make(family, images, 1.0, seed=3, inside=inside)).all()
    whole = synthetic.make(family, images, 1.0, 3, inside=np.ones((64, 64), bool))
    assert (whole == synthetic.make(family, images, 1.0, 3)).all()


FLAT = Box(0, 48, 128, 80)
SHAPES = [FLAT, Box(40, 0, 88, 128), Box(62, 0, 66, 128), Box(0, 0, 128, 128)]


@pytest.mark.parametrize("boxes", [[FLAT] * 4, SHAPES])
@pytest.mark.parametrize("family", synthetic.FAMILIES)
def test_defects_of_padded_images_are_drawn_in_the_picture_and_padded_with_it(family: str, boxes: list[Box]) -> None:
    pictures = zip(goods(4, (128, 128)), boxes, strict=True)
    images = np.stack([padded(cut(image, box), box, (128, 128)) for image, box in pictures])
    made = synthetic.make(family, images, 2.5, seed=3, boxes=boxes)
    for before, after, box in zip(images, made, boxes, strict=True):
        wide = Box(56, 0, 72, 128) if box.width < synthetic.LEAST_SIDE else box
        assert (cut(before, box) != cut(after, box)).any()
        assert (after == padded(cut(after, wide), wide, (128, 128))).all()
