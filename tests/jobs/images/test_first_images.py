import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_model import tiny_config

from jobs.images.first_images import first_images
from models.config import InputConfig
from pipeline.input.config import SourceConfig


def picture(seed: int, shape: tuple[int, int] = (64, 96)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_loose_images_are_counted_and_strays_are_not(tmp_path: Path) -> None:
    for number in range(150):  # more than a unit
        (tmp_path / f"{number:03}.png").write_bytes(picture(number % 3))
    (tmp_path / "manual.pdf").write_bytes(b"%PDF-1.7")
    found = first_images(SourceConfig(input_uri=str(tmp_path)), tiny_config(), 16, 0)
    assert found is not None and (found.images, found.samples) == (150, 150)
    assert found.read_s > 0 and found.unit_bytes > 128 * 2 * 64 * 96 * 3


def test_the_images_of_shards_are_known_by_their_size(tmp_path: Path) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as file:
            for number in range(40):
                content = picture(number, (100, 100))
                member = tarfile.TarInfo(f"{shard}-{number:03}.png")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    found = first_images(SourceConfig(input_uri=str(tmp_path)), tiny_config(), 16, 0)
    assert found is not None and found.images == pytest.approx(80, rel=0.15)


def test_tiles_are_samples(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(picture(number, (128, 192)))
    size = InputConfig(height=64, width=96, resize="tile", overlap=0.0)
    config = tiny_config(input=size, map_height=8, map_width=12)
    counts = [first_images(SourceConfig(input_uri=str(tmp_path)), config, most, 0) for most in (16, 3)]
    assert [found and (found.images, found.samples, found.tiles) for found in counts] == [(6, 24, 4), (6, 18, 4)]


@pytest.mark.parametrize("content", [None, b"\x89PNG\r\n\x1a\n but nothing more"])
def test_nothing_is_known_where_nothing_can_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "broken.png").write_bytes(content)
    assert first_images(SourceConfig(input_uri=str(tmp_path)), tiny_config(), 16, 0) is None
