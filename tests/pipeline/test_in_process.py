"""The same images read as loose files and from a tar, in one go, without Ray."""

import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny_model import BRIEF_MEMBERS

from jobs.command.errors import ErrorShareError, check_unreadable
from models import registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun
from models.roi.region import RegionOfInterest, touched
from models.roi.region import inside as inside_of
from pipeline.decode.config import DecodeConfig
from pipeline.decode.unit import decode_unit
from pipeline.in_process import EncodedUnits, encoded_units, score_encoded
from pipeline.input.config import SourceConfig
from pipeline.scoring.scorer import Scorer
from pipeline.session import encoded_images


def test_loose_files_and_a_tar_give_the_same_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for name in ("a.png", "b.png"):
            encoded = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (20, 30), dtype=np.uint8)).save(encoded, "PNG")
            (tmp_path / name).write_bytes(encoded.getvalue())
            member = tarfile.TarInfo(name)
            member.size = len(encoded.getvalue())
            shard.addfile(member, io.BytesIO(encoded.getvalue()))
    (tmp_path / "notes.txt").write_text("not an image")
    decode = DecodeConfig(height=16, width=16)
    units = [decode_unit(table, decode) for table in encoded_units(SourceConfig(input_uri=str(tmp_path)))]
    assert sum(unit.table.num_rows for unit in units) == 4
    loose, tarred = units
    assert (loose.pixels == tarred.pixels).all() and loose.pixels.shape == (2, 16, 16, 3)


def test_too_many_unreadable_images_end_the_job() -> None:
    check_unreadable(Counter({"truncated": 1}), 20, 0.05, "here")
    check_unreadable(Counter(), 0, 0.0, "here")
    with pytest.raises(ErrorShareError, match="2 of 20 .2 truncated. in here"):
        check_unreadable(Counter({"truncated": 2}), 20, 0.05, "here")


def test_shards_without_images_give_no_unit_and_what_is_ignored_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture, but named as one")
    with tarfile.open(tmp_path / "notes.tar", "w") as shard:
        member = tarfile.TarInfo("notes.txt")
        member.size = 3
        shard.addfile(member, io.BytesIO(b"abc"))
    pq.write_table(pa.table({"url": ["a", "b"]}), tmp_path / "notes.parquet")  # it describes the tar
    units = EncodedUnits(SourceConfig(input_uri=str(tmp_path)))
    for _ in range(2):
        assert [table.num_rows for table in units] == [1]
        assert units.ignored == 2


HEIGHT, WIDTH = 150, 180
INPUT = 96
BRIEF = {"epochs": 1, "epoch_steps": 0, "pairs_per_image": 1}
STATISTICS = ["brightness", "contrast", "sharpness"]


def region() -> np.ndarray:
    """Of no simple shape, and with a hole."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    mask = (rows - 70) ** 2 / 50**2 + (columns - 95) ** 2 / 70**2 < 1
    mask[60:75, 80:101] = False
    return mask


def surfaces(count: int, seed: int) -> np.ndarray:
    """(N, HEIGHT, WIDTH, 3) uint8: smooth colours with grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (count, HEIGHT // 30, WIDTH // 30, 3)).repeat(30, 1).repeat(30, 2)
    return np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)


def other_surroundings(images: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """The images with a lamp, with a label and with noise outside the mask."""
    lamp, label, noise = images.copy(), images.copy(), images.copy()
    lamp[:, :40, :60] = 255
    label[:, 120:, ::7] = 0
    noise[:] = np.random.default_rng(5).integers(0, 256, images.shape, dtype=np.uint8)
    return [np.where(mask[..., None], images, changed) for changed in (lamp, label, noise)]


def decoded(images: np.ndarray, config: ArtifactConfig) -> torch.Tensor:
    (table,) = encoded_images(list(images))
    return torch.from_numpy(decode_unit(table, DecodeConfig.of(config.input)).pixels)


class InMemory:
    def __init__(self, detector: Detector, images: torch.Tensor) -> None:
        self.maps = detector.extract(images)

    def read(self, positions: torch.Tensor) -> list[torch.Tensor]:
        return [x[positions] for x in self.maps]


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize(("resize", "shading"), [("squash", False), ("squash", True), ("pad", False)])
def test_nothing_outside_the_region_of_interest_changes_a_bit(name: str, resize: str, shading: bool) -> None:
    """Of the fit, score, map, embedding and statistics, whatever stands there and at whatever size the pictures come."""
    mask = region()
    config = ArtifactConfig(
        name="tiny",
        detector=name,
        backbone=BackboneConfig(name="test_resnet", weights="none"),
        input=InputConfig(height=INPUT, width=INPUT, resize=resize, roi=RegionOfInterest.of(mask), shading_correction=shading),
        batch_size=4,
        hyperparameters={"patchsvdd": {"bank_size": 60}, "patchcore": {"bank_size": 60}, "ensemble": BRIEF_MEMBERS}.get(
            name, {}
        ),
        map_threshold=0.0,
    )
    goods, detectors = surfaces(8, seed=1), []
    for images in (goods, other_surroundings(goods, mask)[2]):
        detector = registry.build(config)
        brief = {key: value for key, value in BRIEF.items() if key in detector.Training.model_fields}
        detector.fit(InMemory(detector, decoded(images, config)), torch.arange(8), FitRun(detector.Training(**brief)))
        detectors.append(detector)
    ones, others = (detector.state_dict() for detector in detectors)
    assert all(torch.equal(ones[key], others[key]) for key in ones)

    scorer, decode, images = Scorer(detectors[0].freeze(), "cpu", threads=1), DecodeConfig.of(config.input), surfaces(2, seed=2)
    for step in (1, 3):  # reduced and enlarged
        small = mask[step // 2 :: step, step // 2 :: step]
        found = []
        inside = images.copy()
        inside[:, 60:90, 110:140] = 0
        for each in (images, *other_surroundings(images, mask), inside):
            (table,) = encoded_images(list(each[:, step // 2 :: step, step // 2 :: step]))
            rows, scores = score_encoded(table, decode, scorer)
            assert np.array(scores.anomaly_map).shape[0] == 2 and small.any()
            found.append((rows.select(STATISTICS), scores.score, np.stack(scores.anomaly_map), scores.embedding))
        first, *others_of_it, changed = found
        for other in others_of_it:
            assert other[0].equals(first[0])
            assert all((a == b).all() for a, b in zip(other[1:], first[1:], strict=True))
        assert (changed[1] != first[1]).all() and not changed[0].equals(first[0])
        outside = ~touched(inside_of(decode), first[2].shape[1:])
        assert outside.any() and (first[2][:, outside] <= 0).all()  # the threshold: no region lies there
