"""Lists of excluded images, and what an image that is cut into tiles contributes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from jobs.command.errors import UsageError
from jobs.images.good import Exclusions, GoodSet, read_good_images
from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector
from models.features.store import ImageFeatures
from models.fitting.groups import group_images
from models.roi.region import RegionOfInterest
from pipeline.input.config import SourceConfig


def test_by_key_uri_or_hash_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "exclude.txt"
    path.write_text("# by QA\na.png\n\nfile:///x/b.png\n00ff\nnever.png\n")
    exclusions = Exclusions(path)
    row = {"key": "-", "uri": "-", "content_hash": "-"}
    assert row | {"key": "a.png"} in exclusions
    assert row | {"uri": "file:///x/b.png"} in exclusions
    assert row | {"content_hash": "00ff"} in exclusions
    assert row | {"key": "# by QA"} not in exclusions and row not in exclusions
    with pytest.raises(
        UsageError, match="names an image of the input; got '1 of 4 lines that name none'. Correct or remove 'never.png'"
    ):
        exclusions.check_used()


@pytest.mark.parametrize(
    "text", ["\ufeffsub/\u00e4.png\r\n", ".\\sub\\\u00e4.png\r\n", '"sub/\u00e4.png"', "sub/a\u0308.png", " sub/\u00e4.png\t\n"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lists_from_other_systems_name_the_same_images(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "exclude.txt"
    path.write_bytes((text.removeprefix("\ufeff") if encoding == "utf-16" else text).encode(encoding))
    exclusions = Exclusions(path)
    assert {"key": "sub/\u00e4.png", "uri": "u", "content_hash": None} in exclusions
    assert {"key": "sub/a\u0308.png", "uri": "u", "content_hash": None} in exclusions
    exclusions.check_used()


def test_misspelt_lines_are_shown_with_what_they_may_mean(tmp_path: Path) -> None:
    path = tmp_path / "exclude.txt"
    path.write_text("a1.png\nA2.PNG\nb/3.png\nnothing like it\n5\n6\n7\n")
    exclusions = Exclusions(path)
    for key in ("x/a1.png", "x/a2.png", "b/30.png"):
        assert {"key": key, "uri": f"file:///{key}", "content_hash": "00"} not in exclusions
    with pytest.raises(UsageError) as caught:
        exclusions.check_used()
    said = str(caught.value)
    assert "'7 of 7 lines that name none'" in said and "and 2 more" in said
    assert "'A2.PNG' (did you mean 'x/a2.png'?)" in said and "'b/3.png' (did you mean 'b/30.png'?)" in said


def test_no_list_excludes_nothing_and_a_missing_one_is_said() -> None:
    assert {"key": "a", "uri": "b", "content_hash": "c"} not in Exclusions(None)
    with pytest.raises(UsageError, match="--exclude must be a readable text file"):
        Exclusions(Path("/no/such/file"))


def small(resize: str, roi: RegionOfInterest | None = None) -> Detector:
    return registry.build(
        ArtifactConfig(
            name="tiny",
            backbone=BackboneConfig(name="test_resnet", taps=("layer2",), weights="none"),
            input=InputConfig(height=32, width=32, resize=resize, roi=roi),
            hyperparameters={"whiten_dims": 4, "hidden": 4, "kernels": [3]},
        )
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 images of 96 x 64 px, the first two nearly the same, one smaller than a tile, and a damaged file."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(10):
        size = (20, 24) if number == 9 else (64, 96)
        pixels = np.random.default_rng(max(number, 1)).normal(128, 40, size)
        pixels = ndimage.gaussian_filter(pixels, 2) * 4 - 384
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number}.png", compress_level=number)
    (folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def read(archive: Path, workspace: Path, resize: str, **options) -> tuple[GoodSet, np.ndarray]:
    with ImageFeatures(small(resize), workspace, "good") as images:
        read = read_good_images(SourceConfig(input_uri=str(archive)), images, Exclusions(None), None, 0.2, **options)
        assert len(images) == len(read.owners)
        return read, images.pixels.read(torch.arange(len(images))).numpy()


def test_an_excluded_image_counts_as_that_even_when_it_cannot_be_read(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "exclude.txt"
    path.write_text("x.png\n3.png\n")
    with ImageFeatures(small("squash"), tmp_path, "good") as images:
        found = read_good_images(SourceConfig(input_uri=str(archive)), images, Exclusions(path), None, 0.0)
    assert found.excluded == 2 and not found.unreadable and len(found.hashes) == 9
    path.write_text("x.png\n33.png\n")
    with ImageFeatures(small("squash"), tmp_path, "again") as images, pytest.raises(UsageError, match="did you mean '3.png'"):
        read_good_images(SourceConfig(input_uri=str(archive)), images, Exclusions(path), None, 0.0)


def test_tiles_belong_to_their_image_and_to_its_group(archive: Path, tmp_path: Path) -> None:
    found, pixels = read(archive, tmp_path, "tile")
    counts = np.bincount(found.owners)
    assert counts.tolist() == [12] * 9 + [1] and len(found.hashes) == len(found.thumbs) == 10
    assert found.unreadable == {"corrupt": 1} or found.unreadable == {"truncated": 1}
    groups = group_images(found.group_keys, "lot", found.thumbs)
    assert groups.names[0] == groups.names[1] and groups.count() == 9
    assert found.samples(np.array([1, 9])).tolist() == [*range(12, 24), 108]
    image = np.asarray(Image.open(archive / "1.png"))
    assert (pixels[12, :, :, 0] == image[:32, :32]).all()


def test_some_tiles_of_an_image_are_drawn_with_the_seed(archive: Path, tmp_path: Path) -> None:
    some, again, others = (read(archive, tmp_path, "tile", tiles_per_image=5, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(some[0].owners).tolist() == [5] * 9 + [1]
    assert (some[1] == again[1]).all() and not (some[1] == others[1]).all()


def test_an_image_that_is_not_cut_is_one_sample(archive: Path, tmp_path: Path) -> None:
    found, pixels = read(archive, tmp_path, "squash")
    assert found.owners.tolist() == list(range(10)) == found.samples(np.arange(10)).tolist() and len(pixels) == 10


def test_the_part_of_a_padded_image_that_shows_it_is_known(archive: Path, tmp_path: Path) -> None:
    found, _ = read(archive, tmp_path, "pad")
    boxes = GoodSet.of_state(found.state()).boxes(small("pad").config.input)
    assert boxes is not None and boxes[0] == (0, 5, 32, 26) and boxes[9] == (0, 2, 32, 29) and len(boxes) == 10
    assert found.boxes(small("squash").config.input) is None


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_shots_of_a_piece_are_a_group_whatever_lies_outside_the_region_of_interest(tmp_path: Path, resize: str) -> None:
    rng, mask = np.random.default_rng(3), np.zeros((96, 128), bool)
    mask[20:76, 40:110] = True
    (tmp_path / "shots").mkdir()
    for piece in range(8):
        surface = 210 + ndimage.gaussian_filter(rng.standard_normal((96, 128)), 4) * 60
        for shot in range(3):
            pixels = np.where(mask, surface + rng.normal(0, 3, mask.shape), rng.integers(0, 255, mask.shape))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(tmp_path / "shots" / f"{piece}-{shot}.png")
    with ImageFeatures(small(resize, RegionOfInterest.of(mask)), tmp_path, "good") as images:
        found = read_good_images(SourceConfig(input_uri=str(tmp_path / "shots")), images, Exclusions(None), None, 0.0)
    groups = group_images(found.group_keys, "lot", found.thumbs)
    assert groups.count() == 8 and len(set(zip(groups.names, np.arange(24) // 3, strict=True))) == 8


@pytest.mark.parametrize("resize", ["squash", "tile"])
@pytest.mark.parametrize(("top", "deep", "warned"), [(4095, True, True), (65535, True, False), (60, False, False)])
def test_twelve_bits_in_sixteen_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], resize: str, top: int, deep: bool, warned: bool
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    for number in range(10):
        share = ndimage.gaussian_filter(np.random.default_rng(number).random((64, 64)), 1)
        levels = (share / share.max() * top).astype(np.uint16 if deep else np.uint8)
        Image.fromarray(levels).save(archive / f"{number}.{'tif' if number % 2 else 'png'}")
    read(archive, tmp_path, resize)
    said = [line for line in capsys.readouterr().out.splitlines() if "--white-level 4095" in line]
    assert len(said) == warned and all("less than a quarter of their range" in line for line in said)
