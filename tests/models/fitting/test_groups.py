"""Groups and the split: no group on two sides, shares kept, near-duplicates found, and honesty when they cannot be."""

import numpy as np
import pytest
import torch

from models.fitting.groups import group_images, near_duplicates, split, thumbnails
from models.roi.region import FILL


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


def in_region(region: torch.Tensor, shots: torch.Tensor) -> torch.Tensor:
    """The pictures drawn over outside it, with a rim that is half drawn over, as a resize leaves one."""
    part = torch.nn.functional.avg_pool2d(region.float()[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    part = torch.where(region, part, 0.0)[:, :, None]
    return (part * shots + (1 - part) * FILL).to(torch.uint8)


REGIONS = {
    "disc": (torch.arange(48)[:, None] - 24) ** 2 + (torch.arange(40) - 20) ** 2 < 16**2,
    "bar": (torch.arange(48)[:, None] - 24).abs().expand(48, 40) < 4,
    "whole": torch.ones(48, 40, dtype=torch.bool),
}


@pytest.mark.parametrize("region", REGIONS)
def test_what_lies_outside_the_region_of_interest_joins_no_pieces(region: str) -> None:
    """Beside bright pieces, the outline is most of what a picture shows."""
    inside = REGIONS[region]
    shots = in_region(inside, 190 + pieces(12, 4) // 5)
    found = group_images(None, None, thumbnails(shots, inside))
    assert found.count() == 12 and all(len(set(found.names[i * 4 : i * 4 + 4])) == 1 for i in range(12))
    cluttered = torch.where(inside[:, :, None], shots, pieces(48, 1, seed=9))
    assert (thumbnails(cluttered, inside) == thumbnails(shots, inside)).all()
    lengths = np.linalg.norm(thumbnails(shots, inside), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_a_narrow_region_keeps_its_rim() -> None:
    """Two columns wide: none of its pixels lies apart from what is drawn over."""
    inside = torch.zeros(48, 40, dtype=torch.bool)
    inside[:, 20:22] = True
    thumbs = thumbnails(torch.where(inside[:, :, None], pieces(12, 4), FILL), inside)
    assert thumbs.any() and group_images(None, None, thumbs).count() == 12


def test_a_flat_region_is_flat_and_so_is_one_of_one_pixel() -> None:
    inside = torch.zeros(48, 40, dtype=torch.bool)
    inside[7, 9] = True
    assert not thumbnails(pieces(3, 1), inside).any()
    flat = torch.where(REGIONS["disc"][:, :, None], 201, pieces(3, 1)).to(torch.uint8)
    assert np.abs(thumbnails(flat, REGIONS["disc"])).max() < 1e-4


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
