import pyarrow as pa
import pytest
from fake_run import FIRST, MODEL, failed, published, run_id, scored, write_slice

from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import DataFile
from pipeline.tables.delta import arrow_schema, open_table
from pipeline.tables.files import ActiveFile, active_files
from pipeline.tables.replaced import PartJob, Replaced, ScanJob, Span, find_objects, may_hold, planned_again
from pipeline.tables.rewrite import RewriteJob, rewrite

LEDGER = Ledger("s3://out", MODEL)
JANUARY = "2026-01"
BASES = (("s3://old/", "key://7/"),)


def active(first=None, last=None, run=None):
    return ActiveFile(DataFile("x.parquet", 1, {"model": MODEL, "period": JANUARY}), first, last, run)


@pytest.mark.parametrize(
    "file, expected",
    [
        (active("a", "c", run_id(3)), True),
        (active("a", "m", run_id(5)), True),
        (active("z", "zz", run_id(5)), True),
        (active("A", "B", run_id(3)), False),
        (active("zzz", "zzzz", run_id(3)), False),
        (active("a", "c", run_id(6)), False),
        (active("a", "c"), True),
        (active(run=run_id(3)), True),
        (active(run=run_id(6)), False),
        (active("A", None, run_id(3)), True),
        (active("a", "c", MODEL), True),
    ],
)
def test_which_files_may_hold_replaced_objects(file, expected):
    """The objects are a to zz, held by slice 5 or an earlier one."""
    assert may_hold(file, Span("a", "zz", 5), LEDGER, ()) == expected


def test_files_of_an_input_that_may_move_are_compared_by_identity():
    span = Span("key://7/b", "key://7/c", 5)
    assert may_hold(active("s3://old/a", "s3://old/b", run_id(3)), span, LEDGER, BASES)
    assert not may_hold(active("s3://old/d", "s3://old/e", run_id(3)), span, LEDGER, BASES)
    assert may_hold(active("s3://else/d", "s3://old/e", run_id(3)), span, LEDGER, BASES), "at several places"


def test_objects_that_are_planned_again_are_summed_up_by_month(tmp_path):
    write_slice(tmp_path, [("2026-01-01", [scored("a", 1.0), scored("b", 1.0)]), ("none", [scored("d", 1.0)])])
    write_slice(tmp_path, [("2026-01-31", [scored("c", 1.0)])])
    again = [("2026-01-01", [scored("a", 2.0), failed("new")]), ("2026-01-31", [scored("c", 1.0)]), ("none", [failed("d")])]
    number = write_slice(tmp_path, again)
    ledger = Ledger(str(tmp_path), MODEL)
    (part,) = read_slice(ledger, number).parts
    may_change = pa.array(["s3://line/d", "s3://line/new"])
    found = planned_again(PartJob(ledger, part, may_change))
    assert found.spans == {
        JANUARY: Span("s3://line/a", "s3://line/c", FIRST + 1),
        "none": Span("s3://line/d", "s3://line/d", FIRST),
    }
    assert found.may_change.to_pylist() == ["s3://line/d"], "a new object has no rows"
    nothing = planned_again(PartJob(ledger, read_slice(ledger, FIRST).parts[0], may_change))
    assert nothing.spans == {} and len(nothing.may_change) == 0


def test_a_file_is_searched_and_written_again(tmp_path):
    published(tmp_path, [("none", [scored("a", 1.0), scored("b", 2.0), scored("c", 3.0)])])
    number = write_slice(tmp_path, [("none", [scored("a", 9.0), scored("b", 9.0), scored("n", 9.0)])])
    ledger, table = Ledger(str(tmp_path), MODEL), open_table(str(tmp_path), "scores")
    (found,) = active_files(table, MODEL, ["none"])
    wanted = pa.array(["s3://line/c", "s3://line/n"])
    assert find_objects(ScanJob(str(tmp_path), "scores", found.file.path, wanted, ())).to_pylist() == ["s3://line/c"]

    def written(*kept):
        objects = pa.array([f"s3://line/{name}" for name in kept], pa.string())
        replaced = Replaced(ledger, number, objects, ())
        return rewrite(RewriteJob(ledger, "new", "scores", found.file, arrow_schema(table), replaced))

    some = written("a")
    assert some.file == found.file and [
        pa.parquet.read_metadata(tmp_path / "scores" / f.path).num_rows for f in some.added
    ] == [2]
    assert written("a", "b") == ("scores", None, ())
