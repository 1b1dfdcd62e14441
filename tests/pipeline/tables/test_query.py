import duckdb
import pytest
from deltalake import DeltaTable
from fake_run import failed, info, scored, write_slice

from pipeline.state.run_state import RunState
from pipeline.tables import finalize
from pipeline.tables.finalize import finalize_slice
from pipeline.tables.query import NoTables, open_tables

DAY = "2026-01-01"
CONTENT = [
    (DAY, [scored("a", 1.0), scored("b", 3.0), failed("c")]),
    ("2026-01-02", [scored("d", 2.0)]),
    ("50% off", [scored("it's", 2.5)]),
]


@pytest.fixture
def output(tmp_path):
    return published(str(tmp_path))


def published(output):
    write_slice(output, CONTENT)
    finalize_slice(output, info())
    return output


def ask(output, question):
    return open_tables(output).connection.sql(question).fetchall()


def test_every_view_has_its_rows_and_changes_show(place):
    output = published(place)
    assert ask(output, "select uri, score from scores order by score desc") == [
        ("s3://line/b", 3.0),
        ("s3://line/it's", 2.5),
        ("s3://line/d", 2.0),
        ("s3://line/a", 1.0),
    ]
    assert ask(output, "select count(*), sum(octet_length(map)) from maps") == [(4, 4 * 48)]
    assert ask(output, "select count(*), max(x1) from regions") == [(4, 30)]
    assert ask(output, "select uri, error from errors") == [("s3://line/c", "truncated")]
    assert ask(output, "select scored, quarantined from runs") == [(4, 1)]

    write_slice(output, [(DAY, [scored("a", 9.0), scored("n", 0.5)])], number=1)
    finalize_slice(output, info(slice=1, key_columns=("line", "product", "camera")))
    assert ask(output, "select score from scores where uri = 's3://line/a'") == [(9.0,)]
    assert ask(output, "select count(*), count(line), count(camera) from scores") == [(5, 5, 0)]
    assert ask(output, "select count(*) from maps m join scores s using (model, date, unit_id, image_id)") == [(5,)]


def test_partition_values_are_text_as_they_were(output):
    assert ask(output, "select distinct date, typeof(date) from scores order by 1") == [
        (DAY, "VARCHAR"),
        ("2026-01-02", "VARCHAR"),
        ("50% off", "VARCHAR"),
    ]
    assert ask(output, "select uri from scores where date = '50% off' and model = 'tiles'") == [("s3://line/it's",)]


def test_maps_show_only_images_that_scores_has(tmp_path):
    """As after a kill between the commits of maps and scores."""
    output = published(str(tmp_path))
    before = ask(output, "select image_id from maps order by 1")
    write_slice(output, [(DAY, [scored("z", 1.0)])], run_id="other")
    original = finalize.replace_files

    def killed(name, *rest):
        if name == "scores":
            raise KeyboardInterrupt
        original(name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finalize, "replace_files", killed)
        with pytest.raises(KeyboardInterrupt):
            finalize_slice(output, info(run_id="other"))
    assert len(DeltaTable(tmp_path / "maps").to_pyarrow_table()) == len(before) + 1
    assert ask(output, "select image_id from maps order by 1") == before
    assert ask(output, "select count(*) from regions") == [(4,)]


def test_tables_without_rows_have_their_columns(output):
    tables = open_tables(output)
    assert set(tables.empty) == {"lots"} and "calibrated" in tables.empty["lots"]
    assert tables.connection.sql("select lot, lot_p, state from lots").fetchall() == []


def test_nothing_published_is_said(tmp_path):
    place = str(tmp_path)
    with pytest.raises(NoTables, match="flowscore score"):
        open_tables(place)
    RunState(place, "r").store.put("_flowscore/runs/r/config.json", b"{}")
    with pytest.raises(NoTables):
        open_tables(place)


def test_pandas_pyarrow_and_duckdb_read_the_same_rows(tmp_path):
    output = published(str(tmp_path))
    table = DeltaTable(tmp_path / "scores")
    columns = table.to_pyarrow_table().column_names
    by_pyarrow = sorted(table.to_pyarrow_table().to_pylist(), key=lambda row: row["image_id"])
    frame = table.to_pandas().sort_values("image_id").reset_index(drop=True)
    connection = open_tables(output).connection
    by_duckdb = connection.sql("select * from scores order by image_id").to_arrow_table().to_pylist()
    assert by_duckdb == by_pyarrow
    by_pandas = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert [{name: row[name] for name in columns} for row in by_pandas] == by_pyarrow


def test_sql_cannot_change_the_tables(output):
    with pytest.raises(duckdb.Error):
        open_tables(output).connection.execute("delete from scores")
