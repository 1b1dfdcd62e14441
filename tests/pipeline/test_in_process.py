"""The same images read as loose files and from a tar, in one go, without Ray."""

import io
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.command.errors import ErrorShareError, check_unreadable
from pipeline.decode.config import DecodeConfig
from pipeline.decode.unit import decode_unit
from pipeline.in_process import EncodedUnits, encoded_units
from pipeline.input.config import SourceConfig


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
