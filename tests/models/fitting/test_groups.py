"""Groups and the split: no group on two sides, shares kept, near-duplicates found, and honesty when they cannot be."""

import numpy as np
import pytest
import torch

from models.config import InputConfig
from models.fitting.groups import group_images, near_duplicates, split, thumbnails
from models.roi.cells import pixels_inside
from models.roi.region import RegionOfInterest


def pieces(count: int, pictures: int, seed: int = 0) -> torch.Tensor:
    """`pictures` noisy exposures of each of `count` random surfaces, (count * pictures, 48, 40, 3), uint8."""
    rng = np.random.default_rng(seed)
    surfaces = rng.integers(0, 255, (count, 1, 12, 10, 1)).repeat(4, axis=2).repeat(4, axis=3)
    gains = rng.uniform(0.6, 1.0, (1, pictures, 1, 1, 1))
    shots = surfaces * gains + rng.normal(0, 8, (count, pictures, 48, 40, 1))
    return torch.from_numpy(np.clip(shots, 0, 255).astype(np.uint8).repeat(3, axis=4).reshape(-1, 48, 40, 3))


def test_near_duplicates_are_one_group() -> None:
    found = near_duplicates(thumbnails(pieces(12, 4)), 0.8)
    assert len(set(found)) == 12
    assert all(len(set(found[i * 4 : i * 4 + 4])) == 1 for i in range(12))


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_what_lies_outside_a_region_of_interest_makes_no_images_alike(resize: str) -> None:
    """Bright pieces on the grey that stands for what does not count: it is far from them, and the same in every image."""
    rows, columns = np.mgrid[:48, :40]
    mask = np.hypot(rows - 24, columns - 20) < 18
    inside = pixels_inside(InputConfig(height=48, width=40, resize=resize, roi=RegionOfInterest.of(mask)))
    assert inside is not None
    bright = (200 + pieces(12, 4).float() / 5).to(torch.uint8)
    images = torch.where(inside[..., None], bright, torch.tensor(117, dtype=torch.uint8))
    found = near_duplicates(thumbnails(images, inside), 0.8)
    assert len(set(found)) == 12 and all(len(set(found[i * 4 : i * 4 + 4])) == 1 for i in range(12))
    assert len(set(near_duplicates(thumbnails(images), 0.8))) == 1
    other = torch.where(inside[..., None], images, torch.randint(0, 256, images.shape, dtype=torch.uint8))
    assert (thumbnails(other, inside) == thumbnails(images, inside)).all()


def test_a_region_of_few_pixels_has_thumbnails_of_these():
    images = pieces(3, 1)
    inside = torch.zeros(48, 40, dtype=torch.bool)
    inside[10:14, 20:23] = True
    thumbs = thumbnails(images, inside)
    np.testing.assert_allclose(np.linalg.norm(thumbs, axis=1), 1, rtol=1e-5)
    assert (thumbnails(images, torch.zeros(48, 40, dtype=torch.bool)) == 0).all()


def test_groups_are_found_across_blocks_and_through_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.fitting.groups.BLOCK", 5)
    angles = np.deg2rad([0, 20, 40, 60, 80, 180, 200, 220])  # neighbours correlate at 0.94, the ends of a chain do not
    order = np.random.default_rng(0).permutation(8)
    found = near_duplicates(np.stack([np.cos(angles), np.sin(angles)], 1)[order].astype(np.float32), 0.9)
    by_angle = found[np.argsort(order)]
    assert len(set(by_angle[:5])) == 1 and len(set(by_angle[5:])) == 1 and by_angle[0] != by_angle[5]


def test_the_key_decides_when_every_image_has_one() -> None:
    thumbs = thumbnails(pieces(4, 2))
    groups = group_images(list("aabbccdd"), "lot", thumbs)
    assert groups.names == list("aabbccdd") and "lot" in groups.basis and groups.count() == 4
    without = group_images(["a", None, *"abcdef"], "lot", thumbs)
    assert "near-duplicate" in without.basis


def test_images_that_all_look_alike_are_said_to_be() -> None:
    groups = group_images(None, None, thumbnails(pieces(1, 9)))
    assert groups.count() == 9 and "nothing" in groups.basis


@pytest.mark.parametrize("seed", range(4))
def test_no_group_on_two_sides_and_shares_kept(seed: int) -> None:
    groups = [f"g{number}" for number in np.random.default_rng(seed).integers(0, 60, 600)]
    sets = split(groups, (0.2, 0.1), seed)
    assert sorted(np.concatenate(sets).tolist()) == list(range(600))
    names = [{groups[i] for i in part} for part in sets]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert 90 <= len(sets[0]) <= 150 and 40 <= len(sets[1]) <= 85
    again = split(groups, (0.2, 0.1), seed)
    assert all((a == b).all() for a, b in zip(sets, again, strict=True))


def test_a_share_of_0_takes_nothing_and_the_rest_is_never_empty() -> None:
    calibration, selection, rest = split(["a", "b"], (0.0, 0.9), 0)
    assert len(calibration) == 0 and len(rest) >= 1
    assert [len(part) for part in split(["a"], (0.5, 0.4), 0)] == [0, 0, 1]


@pytest.mark.parametrize("seed", range(20))
def test_a_large_group_takes_no_set_for_itself(seed: int) -> None:
    groups = ["large"] * 150 + [f"{i // 8}" for i in range(600)]
    sets = split(groups, (0.2, 0.1), seed)
    of_sets = [{groups[i] for i in part} for part in sets]
    assert all(abs(len(part) - wanted) <= 4 for part, wanted in zip(sets[:2], (150, 75), strict=True))
    assert all(len(found) >= 9 and "large" not in found for found in of_sets[:2])


def test_large_groups_fill_what_small_ones_do_not() -> None:
    groups = ["x"] * 40 + ["y"] * 40 + ["z"] * 40 + ["a", "b"]
    held_out, rest = split(groups, (0.3,), 0)
    assert {groups[i] for i in held_out} > {"a", "b"} and 40 <= len(held_out) <= 44 and len(rest) == 122 - len(held_out)
