import csv

import pytest

from jobs.benchmark.figures import COLUMNS, FOLDER, Book, Figure, Measured, append, measures, open_book, read
from jobs.command.errors import UsageError

FIGURES = [Figure("model_alone_per_s", 61.25, "images/s"), Figure("threads", 2)]
MEASURED = Measured("padim", "in-memory", "cpu-bf16", FIGURES)


def test_a_file_has_one_row_a_figure_and_the_same_columns_for_every_measure(tmp_path):
    path = tmp_path / "new" / "figures.csv"
    append(path, "some-cpu-2-cores", MEASURED)
    append(path, "some-cpu-2-cores", Measured("padim", "decode-only", "cpu", [Figure("decode_per_s", 1 / 3)], "64x48"))
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == COLUMNS and [len(row) for row in rows] == [len(COLUMNS)] * 4
    assert rows[1][2:] == [
        "some-cpu-2-cores",
        "padim",
        "in-memory",
        "cpu-bf16",
        "",
        "",
        "model_alone_per_s",
        "61.25",
        "images/s",
    ]
    assert rows[2][-3:] == ["threads", "2", ""] and rows[3][6:10] == ["64x48", "", "decode_per_s", "0.3333333333"]
    assert rows[1][0].endswith("+00:00")


def test_measures_are_told_apart_and_the_newest_is_last(tmp_path):
    path = tmp_path / "figures.csv"
    append(path, "cpu", MEASURED)
    earlier = [row | {"date": "2020-01-01T00:00:00+00:00", "value": "1"} for row in read(path)]
    rows = [*read(path), *earlier]
    assert measures(rows, case="padim", measure="in-memory") == [
        {"model_alone_per_s": 1, "threads": 1},
        {"model_alone_per_s": 61.25, "threads": 2},
    ]
    assert measures(rows, case="fastflow") == []


def test_no_other_file_is_written_to(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="--csv must be a new file"):
        append(path, "cpu", MEASURED)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_book_writes_where_it_is_told(tmp_path, capsys):
    Book("cpu", tmp_path / "none.csv", writes=False).enter(MEASURED)
    assert not (tmp_path / "none.csv").exists() and "model_alone_per_s            61.25 images/s" in capsys.readouterr().out
    assert open_book("cpu", None, save=True) == Book("cpu", FOLDER / "cpu.csv", True)
    assert open_book("cpu", tmp_path / "x", save=False) == Book("cpu", tmp_path / "x", True)
    assert not open_book("cpu", None, save=False).writes
    with pytest.raises(UsageError, match="--csv"):
        open_book("cpu", tmp_path / "x", save=True)


def test_the_files_of_the_documents_can_be_read():
    files = sorted(FOLDER.glob("*.csv"))
    assert files
    for path in files:
        assert {row["hardware"] for row in read(path)} == {path.stem}
        assert measures(read(path), measure="end-to-end")
