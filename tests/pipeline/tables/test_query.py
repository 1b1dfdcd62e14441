import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from fake_run import SOURCE, failed, publish, published, scored, write_slice

from pipeline.storage.store import open_store
from pipeline.tables import publication
from pipeline.tables.query import NoTables, open_tables
from schemas import errors

DAY = "2026-01-01"
CONTENT = [
    (DAY, [scored("a", 1.0), scored("b", 3.0), failed("c")]),
    ("2026-01-02", [scored("d", 2.0)]),
    ("50% off", [scored("it's", 2.5)]),
]


@pytest.fixture
def output(tmp_path):
    published(tmp_path, CONTENT)
    return str(tmp_path)


def ask(output, question):
    return open_tables(output).connection.sql(question).fetchall()


def test_every_view_has_its_rows_and_changes_show(place):
    published(place, CONTENT)
    output = place
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

    wider = SOURCE.model_copy(update={"key_pattern": "{line}/{product}/{camera}/{name}"})
    published(output, [(DAY, [scored("a", 9.0), scored("n", 0.5)])], source=wider)
    assert ask(output, "select score from scores where uri = 's3://line/a'") == [(9.0,)]
    assert ask(output, "select count(*), count(line), count(camera) from scores") == [(5, 5, 0)]
    assert ask(output, "select count(*) from maps m join scores s using (model, date, unit_id, image_id)") == [(5,)]


def test_a_column_that_no_file_has_any_more_is_null(tmp_path):
    """The key pattern has lost a field, and all files from before were replaced."""
    wider = SOURCE.model_copy(update={"key_pattern": "{line}/{product}/{camera}/{name}"})
    published(tmp_path, [(DAY, [failed("c")])], source=wider)
    published(tmp_path, [(DAY, [scored("c", 1.0), failed("d")])])
    assert ask(str(tmp_path), "select uri, line, camera, date from errors") == [("s3://line/d", "7", None, DAY)]


@pytest.mark.parametrize(
    ("rows", "other"), [([scored("a", 1.0)], "errors"), ([failed("a")], "scores")], ids=["no error yet", "nothing scored yet"]
)
def test_scores_and_errors_have_the_same_keys_before_the_first_row(tmp_path, rows, other):
    published(tmp_path, [(DAY, rows)])
    tables = open_tables(str(tmp_path))
    assert tables.connection.sql(f"select lot, line, product from {other}").fetchall() == [] and other in tables.empty


def test_a_key_that_only_scores_has_rows_of_is_null_in_errors(tmp_path):
    published(tmp_path, [(DAY, [failed("c")])])
    wider = SOURCE.model_copy(update={"key_pattern": "{line}/{product}/{camera}/{name}"})
    published(tmp_path, [(DAY, [scored("a", 1.0) | {"keys": [("line", "8"), ("camera", "2")]}])], source=wider)
    query = "select uri, line, camera from errors union all select uri, line, camera from scores"
    assert ask(str(tmp_path), query) == [("s3://line/c", "7", None), ("s3://line/a", "8", "2")]


def test_errors_of_an_earlier_flowscore_have_the_columns_of_today(tmp_path, monkeypatch):
    old = pa.schema([column for column in errors.SCHEMA if column.name not in ("lot", "model_digest")])
    with monkeypatch.context() as patch:
        patch.setattr(errors, "SCHEMA", old)
        patch.setattr(errors, "with_keys", lambda keys: old)
        patch.setattr(errors, "VERSION", 2)
        published(tmp_path, [(DAY, [failed("c"), scored("a", 1.0)])])
    question = "select uri, lot, line from errors order by uri"
    assert ask(str(tmp_path), question) == [("s3://line/c", None, None)]
    published(tmp_path, [(DAY, [failed("d")])])
    assert ask(str(tmp_path), question) == [("s3://line/c", None, None), ("s3://line/d", "lot1", "7")]


def test_partition_values_are_text_as_they_were(output):
    assert ask(output, "select distinct date, typeof(date) from scores order by 1") == [
        (DAY, "VARCHAR"),
        ("2026-01-02", "VARCHAR"),
        ("50% off", "VARCHAR"),
    ]
    assert ask(output, "select uri from scores where date = '50% off' and model = 'tiles'") == [("s3://line/it's",)]


def test_maps_show_only_images_that_scores_has(output, tmp_path):
    """As after a kill between the commits of maps and scores, and after a replacement."""
    before = ask(output, "select image_id from maps order by 1")
    number = write_slice(output, [(DAY, [scored("z", 1.0)])])
    original = publication.apply_change

    def killed(table, *rest):
        if table.table_uri.rstrip("/").endswith("/scores"):
            raise KeyboardInterrupt
        original(table, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publication, "apply_change", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(output, number)
    assert len(DeltaTable(tmp_path / "maps").to_pyarrow_table()) == len(before) + 1
    assert ask(output, "select image_id from maps order by 1") == before
    assert ask(output, "select count(*) from regions") == [(4,)]
    published(output, [(DAY, [failed("z")])])
    assert len(DeltaTable(tmp_path / "maps").to_pyarrow_table()) == len(before) + 1
    assert ask(output, "select image_id from maps order by 1") == before


def test_tables_without_rows_have_their_columns(output):
    tables = open_tables(output)
    assert set(tables.empty) == {"decisions", "drift", "lots"} and "calibrated" in tables.empty["lots"]
    assert tables.connection.sql("select lot, lot_p, state from lots").fetchall() == []


def test_nothing_published_is_said(tmp_path):
    place = str(tmp_path)
    with pytest.raises(NoTables, match="flowscore score"):
        open_tables(place)
    open_store(place).put("_flowscore/ledgers/tiles/entries/x.json", b"{}")
    with pytest.raises(NoTables):
        open_tables(place)


def test_pandas_pyarrow_and_duckdb_read_the_same_rows(output, tmp_path):
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
