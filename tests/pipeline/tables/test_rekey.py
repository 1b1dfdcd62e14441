import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_run import MODEL, SOURCE, failed, published
from published_rows import SORTED, new_ledger, publish_rows, seal_slice

from pipeline.state.entries import OtherKeys, check_keys, read_head
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Publications
from pipeline.tables import publication, rekey, writer
from pipeline.tables.delta import TableConflict, arrow_schema, open_table, table_files
from pipeline.tables.files import data_files
from pipeline.tables.rekey import Rekeyed, SlicesWait, begin
from schemas import errors, scores

OLD, NEW = "{line}/{lot}/{name}", "{hall}/{line}/{name}"
ROWS = [("north/l1/a.png", None, 1.0), ("north/l2/b.png", None, 3.0), ("south/l1/c.tar", "./x/1.png", 2.0)]


@pytest.fixture
def ledger(tmp_path):
    return new_ledger(tmp_path, OLD)


def rows(ledger, *columns):
    """All rows of scores in the order of their uris."""
    table = open_table(ledger.output_uri, "scores").to_pyarrow_table().sort_by("uri")
    return [tuple(row[column] for column in columns) for row in table.to_pylist()]


def unchanged(ledger):
    """What a rekey must leave as it is."""
    return rows(ledger, *(name for name in scores.SCHEMA.names if name != "lot"))


def versions(ledger):
    return open_table(ledger.output_uri, "scores").version()


def test_key_columns_and_lot_follow_the_new_pattern_and_nothing_else_changes(ledger):
    publish_rows(ledger, "s3://plant/in", ROWS)
    before = unchanged(ledger)
    assert rows(ledger, "line", "lot") == [("north", "l1"), ("north", "l2"), ("south", "l1")]
    assert begin(ledger, NEW) and rekey.rekey(ledger) == Rekeyed(1, 3)
    assert rows(ledger, "hall", "line", "lot") == [("north", "l1", None), ("north", "l2", None), ("south", "l1", None)]
    assert unchanged(ledger) == before
    (path,) = table_files(open_table(ledger.output_uri, "scores"))
    written = pq.read_table(f"{ledger.output_uri}/scores/{path}", partitioning=None)
    assert written.equals(written.sort_by(SORTED)), "sorted as it was"
    seal = Publications(ledger.output_uri).last_seal()
    assert seal.closed("tiles").rekeyed == read_head(ledger).rekeyed == 3
    assert seal.closed("tiles").through == 2


def test_a_second_time_changes_nothing(ledger):
    publish_rows(ledger, "s3://plant/in", ROWS)
    assert begin(ledger, NEW) and rekey.rekey(ledger).rows == 3
    before = versions(ledger), Publications(ledger.output_uri).last_seal()
    assert not begin(ledger, NEW)
    assert rekey.rekey(ledger) == Rekeyed(0, 0)
    assert (versions(ledger), Publications(ledger.output_uri).last_seal()) == before


def test_there_and_back_again(ledger):
    """Columns that a pattern lacks are null, and have their values again when it has them."""
    publish_rows(ledger, "s3://plant/in", ROWS)
    before = rows(ledger, "line", "lot")
    for pattern in (NEW, OLD):
        begin(ledger, pattern)
        rekey.rekey(ledger)
    assert rows(ledger, "line", "lot", "hall") == [(*row, None) for row in before]


def test_only_files_with_other_values_are_written_again(ledger):
    publish_rows(ledger, "s3://plant/in", [("x.png", None, 1.0)])  # fits neither pattern
    publish_rows(ledger, "s3://plant/in", [("north/l1/a.png", None, 1.0)])
    kept = table_files(open_table(ledger.output_uri, "scores"))
    begin(ledger, NEW)
    assert rekey.rekey(ledger) == Rekeyed(1, 1)
    assert len({*kept} & {*table_files(open_table(ledger.output_uri, "scores"))}) == 1


def test_the_longest_input_that_a_uri_lies_below_is_its_own(ledger):
    publish_rows(ledger, "s3://plant/in", [("north/l1/a.png", None, 1.0)])
    publish_rows(ledger, "s3://plant/in/later", [("north/l1/b.png", None, 1.0)])
    publish_rows(ledger, "s3://plant/in/lat", [("north/l1/c.png", None, 1.0)])
    begin(ledger, NEW)
    rekey.rekey(ledger)
    assert rows(ledger, "hall", "line") == [("north", "l1")] * 3


def test_other_models_keep_their_columns(ledger):
    other = new_ledger(ledger.output_uri, OLD, "castings")
    publish_rows(other, "s3://plant/in", ROWS)
    publish_rows(ledger, "s3://plant/in", ROWS)
    begin(ledger, NEW)
    assert rekey.rekey(ledger) == Rekeyed(1, 3)
    found = {(model, hall) for model, hall in rows(ledger, "model", "hall")}
    assert found == {("castings", None), ("tiles", "north"), ("tiles", "south")}


def test_a_file_of_several_row_groups_is_read_one_by_one(ledger, monkeypatch):
    monkeypatch.setattr(scores, "ROW_GROUP_ROWS", 2)
    publish_rows(ledger, "s3://plant/in", [(f"north/l{i}/a.png", None, float(i)) for i in range(7)])
    begin(ledger, NEW)
    assert rekey.rekey(ledger) == Rekeyed(1, 7)
    assert rows(ledger, "line") == [(f"l{i}",) for i in range(7)]


def test_rows_of_several_files_when_a_file_outgrows_the_limit(ledger, monkeypatch):
    monkeypatch.setattr(scores, "ROW_GROUP_ROWS", 2)
    monkeypatch.setattr(writer, "FILE_BYTES", 1)
    publish_rows(ledger, "s3://plant/in", [(f"north/l{i}/a.png", None, float(i)) for i in range(5)])
    begin(ledger, NEW)
    assert rekey.rekey(ledger).rows == 5
    assert rows(ledger, "line") == [(f"l{i}",) for i in range(5)]


def test_slices_that_wait_come_first(ledger):
    publish_rows(ledger, "s3://plant/in", ROWS)
    waiting = seal_slice(ledger, "s3://plant/in")
    with pytest.raises(SlicesWait, match=f"{waiting} wait.*--slice {waiting} --accept-errors"):
        begin(ledger, NEW)
    assert read_head(ledger).key_pattern == OLD


@pytest.mark.parametrize("step", ["manifest", "scores", "seal"])
def test_a_rekey_that_is_stopped_is_finished_by_repeating_it(ledger, monkeypatch, step):
    publish_rows(ledger, "s3://plant/in", ROWS)

    class Stopped(BaseException):
        pass

    def stop(*args, **named):
        raise Stopped

    begin(ledger, NEW)
    with monkeypatch.context() as patch:
        patch.setattr(publication, {"manifest": "_put", "scores": "_changed", "seal": "Seal"}[step], stop)
        with pytest.raises(Stopped):
            rekey.rekey(ledger)
    assert not begin(ledger, NEW)
    rekey.rekey(ledger)
    assert rows(ledger, "hall", "line") == [("north", "l1"), ("north", "l2"), ("south", "l1")]
    closed = Publications(ledger.output_uri).last_seal().closed("tiles")
    assert closed.rekeyed == read_head(ledger).rekeyed


def test_rows_published_while_files_are_written_are_not_lost(ledger, monkeypatch):
    publish_rows(ledger, "s3://plant/in", ROWS)
    begin(ledger, NEW)
    once = [True]

    def map_fn(function, jobs):
        done = [function(job) for job in jobs]
        if once.pop() if once else False:
            publish_rows(ledger, "s3://plant/in", [("west/l9/z.png", None, 9.0)])
        return done

    rekey.rekey(ledger, map_fn)
    assert rows(ledger, "hall", "line")[-1] == ("west", "l9") and len(rows(ledger, "uri")) == 4
    assert {hall for (hall,) in rows(ledger, "hall")} == {"north", "south", "west"}


def test_a_model_without_rows_has_the_pattern_at_once(ledger):
    assert begin(ledger, NEW) and rekey.rekey(ledger) == Rekeyed(0, 0)
    assert Publications(ledger.output_uri).last_seal().closed("tiles").rekeyed == 2


def test_who_loses_the_entry_decides_anew(ledger, monkeypatch):
    publish_rows(ledger, "s3://plant/in", ROWS)
    add, others = rekey.add_entry, []

    def late(ledger, head, entry):
        if not others:
            others.append(seal_slice(ledger, "s3://plant/in"))  # a planner was first
        return add(ledger, head, entry)

    monkeypatch.setattr(rekey, "add_entry", late)
    with pytest.raises(SlicesWait):
        begin(ledger, NEW)


def test_a_row_of_no_input_is_named(ledger, monkeypatch):
    publish_rows(ledger, "s3://plant/in", ROWS)
    begin(ledger, NEW)
    monkeypatch.setattr(rekey, "_sources", lambda ledger, head: ())
    with pytest.raises(TableConflict, match="s3://plant/in/north/l2/b.png"):
        rekey.rekey(ledger)


def test_a_field_may_not_have_the_name_of_a_column(ledger):
    with pytest.raises(ValueError, match="score"):
        begin(ledger, "{score}/{name}")


def test_an_earlier_pattern_is_refused_from_then_on(ledger):
    begin(ledger, NEW)
    check_keys(ledger, read_head(ledger), "uri", NEW)
    with pytest.raises(OtherKeys, match="key_pattern must stay"):
        check_keys(ledger, read_head(ledger), "uri", OLD)


def test_a_column_of_another_program_is_no_key(ledger):
    """Only texts are keys; a number that somebody has added stays."""
    publish_rows(ledger, "s3://plant/in", ROWS)
    table = open_table(ledger.output_uri, "scores")
    job = rekey.FileJob(ledger, "scores", data_files(table)[0], arrow_schema(table).append(pa.field("weight", pa.int32())), ())
    assert "weight" not in job.columns and job.columns[0] == "lot" and "line" in job.columns


def test_a_pattern_is_tried_on_rows_of_every_input_before_it_becomes_the_ledgers(ledger):
    publish_rows(ledger, "s3://plant/in", ROWS)
    publish_rows(ledger, "s3://plant/more", ROWS[:1])
    some = [("s3://plant/in/south/l1/c.tar", "./x/1.png", "none"), ("s3://plant/more/north/a.png", None, "2026-01-02")]
    loose, member = rekey.tried(ledger, NEW.replace("{name}", "c.tar/{lot}/{name}"), some).read
    assert (loose.path, loose.keys, loose.date) == ("north/a.png", None, "2026-01-02")
    assert (member.path, member.keys["hall"], member.keys["lot"]) == ("south/l1/c.tar/x/1.png", "south", "x")
    assert rekey.tried(ledger, OLD, some) is None and rekey.tried(ledger, NEW, []) is None
    with pytest.raises(TableConflict, match="lie below an input"):
        rekey.tried(ledger, NEW, [("s3://elsewhere/a.png", None, "none")])


def test_errors_of_an_earlier_flowscore_get_lot_and_keys_by_the_same_pattern(tmp_path, monkeypatch):
    """They were written without these columns. A rekey needs no other pattern to fill them."""
    source = SOURCE.model_copy(update={"key_pattern": OLD})
    old = pa.schema([column for column in errors.SCHEMA if column.name not in ("lot", "model_digest")])
    with monkeypatch.context() as patch:
        patch.setattr(errors, "SCHEMA", old)
        patch.setattr(errors, "with_keys", lambda keys: old)
        patch.setattr(errors, "VERSION", 2)
        published(tmp_path, [("2026-01-02", [failed("north/l1/c.png")])], source=source)
    ledger = Ledger(str(tmp_path), MODEL)
    assert not begin(ledger, OLD) and rekey.rekey(ledger) == Rekeyed(1, 1)
    (row,) = open_table(str(tmp_path), "errors").to_pyarrow_table().to_pylist()
    assert (row["uri"], row["lot"], row["line"]) == ("s3://line/north/l1/c.png", "l1", "north")
    assert rekey.rekey(ledger) == Rekeyed(0, 0)
