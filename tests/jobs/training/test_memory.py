from pathlib import Path

import numpy as np

from jobs.training.memory import forget_peak, peak_bytes, room_bytes


def test_the_peak_is_that_since_it_was_forgotten() -> None:
    forget_peak()
    before = peak_bytes()
    large = np.ones(200_000_000, np.uint8)
    grown = peak_bytes()
    assert grown > before + 150_000_000
    del large
    assert peak_bytes() > before + 150_000_000  # the kernel counts some pages late
    forget_peak()
    assert peak_bytes() < grown - 100_000_000


def test_a_container_limits_the_room(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    whole = room_bytes(tmp_path / "none")
    limit.write_text("max\n")
    assert room_bytes(limit) > whole / 2
    limit.write_text("1000000\n")
    assert room_bytes(limit) == 1_000_000
