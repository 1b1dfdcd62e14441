"""Rows in a table's order, in chunks."""

import pyarrow as pa
import pytest

from pipeline.tables import order
from pipeline.tables.order import TableOrder


class Writer:
    """Keeps the scores of each file."""

    def __init__(self):
        self.files, self._open = [], []

    def write(self, rows):
        self._open += rows["score"].to_pylist()

    def end_file(self):
        self.files += [self._open] if self._open else []
        self._open = []


def rows(*scores):
    return pa.table({"score": pa.array(scores, pa.float32()), "image_id": [str(score) for score in scores]})


@pytest.mark.parametrize("limit", [{"CHUNK_ROWS": 4}, {"CHUNK_BYTES": 4 * rows(1.0).nbytes}])
def test_a_chunk_is_sorted_and_makes_a_file(monkeypatch, limit):
    for name, at_most in limit.items():
        monkeypatch.setattr(order, name, at_most)
    writer = Writer()
    sorted_rows = TableOrder(writer, "scores")
    for score in (3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0, 5.0, 3.5):
        sorted_rows.write(rows(score))
        sorted_rows.write(rows())
    sorted_rows.flush()
    assert writer.files == [[4.0, 3.0, 1.5, 1.0], [9.0, 6.0, 5.0, 2.0], [3.5]]


def test_the_size_of_what_waits_is_not_added_up_anew_for_every_unit():
    """A job has thousands of units: their publication took minutes where it takes seconds."""
    looks = []

    class Unit:
        num_rows = 1

        @property
        def nbytes(self):
            looks.append(1)
            return 1

    sorted_rows = TableOrder(Writer(), "scores")
    for _ in range(1000):
        sorted_rows.write(Unit())
    assert len(looks) <= 1000
