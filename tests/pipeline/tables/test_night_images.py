"""What is read of nights: the rows that count, and of `maps` the embeddings of just these rows."""

import judged_ledger
import numpy as np
import pyarrow.parquet as pq
import pytest
from fake_run import DIGEST, MODEL
from judged_ledger import BY_IMAGE, Keys, calibration, image, publish

from pipeline.state.ledger import Ledger
from pipeline.tables import night_images
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.files import active_files
from pipeline.tables.night_images import LookJob, NightsJob, nights_in, read_nights
from pipeline.verdicts.judge import Judge
from pipeline.verdicts.rule import Rule

DAY, NEXT = "2026-05-04", "2026-05-05"
RULE = Rule(calibration="c" * 64)


def vector(length):
    """An embedding of this length."""
    return np.array([length] + 31 * [0], np.float16).tobytes()


def files(output, table):
    return tuple(active.file for active in active_files(open_table(str(output), table), MODEL, None))


def read(output, *nights, keys=BY_IMAGE):
    judge = Judge(DIGEST, RULE, calibration(keys))
    ledger = Ledger(str(output), MODEL)
    return read_nights(NightsJob(ledger, judge, nights, files(output, "scores"), files(output, "maps")))


def test_columns_of_a_night(tmp_path):
    looks = {"brightness": 90.0, "contrast": 10.0, "sharpness": 4.0, "width": 30, "height": 20}
    first = image("L1", "1", 0.5, embedding=vector(3), **looks)
    others = [image("L1", "2", 1.5, embedding=None), image("L2", "3", 2.5, width=None), image("L2", "4", None)]
    publish(tmp_path, [(DAY, [first, *others]), (NEXT, [image("L3", "5", 0.0)])])
    (night,) = read(tmp_path, ("all", DAY))
    assert np.asarray(night.images.score).tolist() == [1.5, 0.5], "sorted by score; one has no size, one no score"
    at = night.images.score.tolist().index(0.5)
    found = [getattr(night.images, name)[at] for name in ("brightness", "contrast", "sharpness", "size_px", "embedding")]
    assert found == [90.0, 10.0, 4.0, 600.0, 3.0] and np.isnan(night.images.embedding[1 - at])
    assert [place.split("\n")[1:] for place in night.places] == [[DAY, "=L1"], [DAY, "=L2"]]
    both = read(tmp_path, ("all", DAY), ("all", NEXT), ("all", "2026-05-06"))
    assert [(night.date, len(night.images.view)) for night in both] == [(DAY, 2), (NEXT, 1), ("2026-05-06", 0)]


def test_the_embedding_is_that_of_the_row_and_not_of_one_that_it_replaced(tmp_path):
    publish(tmp_path, [(DAY, [image("L1", "1", 0.5, embedding=vector(3))])])
    publish(tmp_path, [(DAY, [image("L1", "1", 0.7, embedding=vector(5))])])
    (night,) = read(tmp_path, ("all", DAY))
    assert night.images.embedding.tolist() == [5.0] and night.images.score.tolist() == [np.float32(0.7)]


def test_lines_and_images_that_compare_with_nothing(tmp_path):
    keys = Keys(judged_ledger.PATTERN, lot="lot", by=("line",))
    mine = [image("L1", "1", 0.5), image("L1", "2", 0.5, line="8"), image("L1", "3", 0.5, map_height=5)]
    publish(tmp_path, [(DAY, mine)])
    seven, eight = read(tmp_path, ("line=7", DAY), ("line=8", DAY), keys=keys)
    assert (len(seven.images.view), len(eight.images.view)) == (1, 0), "line 8 is not in the calibration"
    assert seven.places == eight.places


def test_row_groups_of_other_units_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(TABLES["maps"], "ROW_GROUP_ROWS", 2)
    publish(tmp_path, [(day, [image(day, str(at), float(at)) for at in range(4)]) for day in (DAY, NEXT, "2026-05-06")])
    seen = []

    class Counting(pq.ParquetFile):
        def iter_batches(self, *args, row_groups=None, **options):
            seen.append((row_groups, self.num_row_groups, options["columns"]))
            return super().iter_batches(*args, row_groups=row_groups, **options)

    monkeypatch.setattr(night_images.pq, "ParquetFile", Counting)
    (night,) = read(tmp_path, ("all", NEXT))
    assert np.isfinite(night.images.embedding).all()
    ((groups, all_groups, columns),) = (one for one in seen if one[0] is not None)
    assert (len(groups), all_groups) == (2, 6) and columns == ["image_id", "unit_id", "embedding"]


@pytest.mark.parametrize(("first", "expected"), [(0, {DAY: 2, NEXT: 1}), (4, {NEXT: 1})])
def test_which_nights_a_file_holds(tmp_path, first, expected):
    publish(tmp_path, [(DAY, [image("L1", "1", 0.5), image("L1", "2", 0.5)])])
    publish(tmp_path, [(NEXT, [image("L1", "3", 0.5)]), ("no day", [image("L1", "4", 0.5)])])
    ledger, judges = Ledger(str(tmp_path), MODEL), {DIGEST: Judge(DIGEST, RULE, calibration(BY_IMAGE))}
    found = {}
    for file in files(tmp_path, "scores"):
        found |= nights_in(LookJob(ledger, file, judges, ledger.run_id(first)))
    assert found == {(DIGEST, ("all", day)): count for day, count in expected.items()}
