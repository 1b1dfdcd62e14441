"""Rows on disk: what was appended is read back, while it grows, and the files go."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.features.store import FeatureStore, StoredRows
from models.state_file import UnusableState


def test_rows_come_back_in_any_order_while_the_file_grows(tmp_path: Path) -> None:
    pixels = torch.randint(0, 255, (6, 4, 5, 3), dtype=torch.uint8)
    rows = StoredRows(tmp_path / "pixels.bin", (4, 5, 3), np.uint8)
    rows.append(pixels[:4])
    assert torch.equal(rows.read(torch.tensor([3, 0])), pixels[[3, 0]])
    rows.append(pixels[4:])
    assert len(rows) == 6 and torch.equal(rows.read(torch.arange(6)), pixels)
    rows.close()
    assert not list(tmp_path.iterdir())


def test_bf16_features_lose_nothing_and_files_go_with_the_store(tmp_path: Path) -> None:
    maps = [torch.rand(5, 7, 4 >> s, 6 >> s).mul(6).bfloat16().float() for s in range(2)]
    with FeatureStore(tmp_path, "good") as store:
        store.append([x[:3] for x in maps])
        store.append([x[3:] for x in maps])
        found = store.read(torch.tensor([4, 1]))
        assert len(store) == 5
        assert all(torch.equal(a, b[[4, 1]]) and a.dtype == torch.float32 for a, b in zip(found, maps, strict=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path, bad: float) -> None:
    with FeatureStore(tmp_path, "good") as store, pytest.raises(ValueError, match="features must be finite"):
        store.append([torch.full((1, 2, 3, 3), bad)])


def test_kept_rows_are_opened_again_only_as_they_were_completed(tmp_path: Path) -> None:
    pixels = torch.randint(0, 255, (6, 4, 5, 3), dtype=torch.uint8)
    (tmp_path / "pixels.bin").write_bytes(b"left by a killed process")
    rows = StoredRows(tmp_path / "pixels.bin", (4, 5, 3), np.uint8, keep=True)
    rows.append(pixels)
    known = rows.complete()
    rows.close()
    again = StoredRows.opened(tmp_path / "pixels.bin", known)
    assert len(again) == 6 and torch.equal(again.read(torch.tensor([5, 0])), pixels[[5, 0]])
    again.close()
    content = (tmp_path / "pixels.bin").read_bytes()
    for damaged in (content[:-1], content + b"\0", b"\1" + content[1:]):
        (tmp_path / "pixels.bin").write_bytes(damaged)
        with pytest.raises(UnusableState, match=r"pixels\.bin is damaged"):
            StoredRows.opened(tmp_path / "pixels.bin", known)
    (tmp_path / "pixels.bin").unlink()
    with pytest.raises(UnusableState, match="is damaged"):
        StoredRows.opened(tmp_path / "pixels.bin", known)
