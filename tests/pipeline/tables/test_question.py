"""A query sees the tables of its output and nothing else, unless files are allowed."""

import duckdb
import pytest
from fake_run import failed, published, scored

from pipeline.storage.store import open_store
from pipeline.tables import sql
from pipeline.tables.address import duckdb_address
from pipeline.tables.delta import open_table, table_files
from pipeline.tables.query import NotAnswered, open_tables
from pipeline.tables.question import NotAQuestion, check_question

HERE = "a variable that SQL must not see"
QUESTIONS = [
    "select count(*) from scores",
    "from scores",
    "with worst as (select * from scores order by score desc limit 1) select uri from worst",
    "pivot (select date, model, score from scores) on date using max(score)",
    "select * from (pivot (select date, score from scores) on date using max(score))",
    "describe scores",
    "summarize scores",
    "show tables",
    "explain select * from scores",
    "explain analyze select max(score) from scores",
    "create temp table worst as select * from scores where score > 1; select uri from worst",
    "create macro double(x) as 2 * x; select double(score) from scores",
    "select s.uri, r.peak, octet_length(m.map) from scores s join regions r using (image_id) join maps m using (image_id)",
    "select * from errors union all by name select * from runs",
    "values (1)",
    "select 'copy x to y; attach z'  -- install httpfs",
]
REACHING = [
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/proc/self/environ')",
    "select * from '/etc/passwd.csv'",
    "select * from glob('/etc/*')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from parquet_metadata('{other}')",
    "select * from read_parquet('{other}')",
    "select * from read_parquet('{folder}/*')",
    "select * from read_text('{folder}/_delta_log/00000000000000000000.json')",
    "select * from read_text('{folder}/../_flowscore/runs/run1/config.json')",
    "select * from read_csv('https://192.0.2.1/x.csv')",
    "select * from read_parquet('s3://elsewhere/x.parquet')",
    "select * from read_parquet('output://_flowscore/runs/run1/plan/000000.parquet')",
    "select * from query('select * from read_text(''/etc/passwd'')')",
    "select * from HERE",
    "copy scores to '{new}'",
    "copy (select 1) to '{own}' (use_tmp_file false)",
    "copy (pivot (select 1 as a) on a) to '{own}' (use_tmp_file false)",
    "explain analyze copy (select 1) to '{own}' (use_tmp_file false)",
    "explain (analyze) copy (select 1) to '{own}' (use_tmp_file false)",
    "explain analyze /* no */ copy (select 1) to '{own}' (use_tmp_file false)",
    "explain analyze copy (pivot (select 1 as a) on a) to '{own}' (use_tmp_file false)",
    "prepare p as copy (select 1) to '{own}' (use_tmp_file false); execute p",
    "select 1; copy (select 1) to '{own}' (use_tmp_file false); select 2",
    "create table t (a text); copy t from '/etc/passwd'",
    "export database '{new}'",
    "import database '{new}'",
    "attach '{new}'",
    "attach '/etc/passwd' as p (type sqlite)",
    "attach ':memory:' as other",
    "install httpfs",
    "force install httpfs from 'http://192.0.2.1'",
    "load httpfs",
    "load '{new}.duckdb_extension'",
    "update extensions",
    "set enable_external_access = true",
    "set allowed_paths = ['/etc/passwd']",
    "set temp_directory = '/tmp'",
    "reset lock_configuration",
    "set lock_configuration = false; set enable_external_access = true",
    "pragma enable_profiling = 'json'",
    "pragma profiling_output = '{new}'",
    "call enable_logging(storage = 'file', storage_config = {{'path': '{new}'}})",
    "create persistent secret s (type s3, key_id 'a', secret 'b')",
]


@pytest.fixture(scope="module")
def output(module_place):
    place = f"{module_place}/out"
    published(place, [("2026-01-01", [scored("a", 1.5), scored("b", 3.25), failed("c")]), ("2026-01-02", [scored("d", 2)])])
    return place


@pytest.fixture(scope="module")
def tables(output, tmp_path_factory):
    """One connection for all tests of a place: what is refused leaves it as it was."""
    return open_tables(output, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def own(output):
    """A file of the table scores, as DuckDB opens it."""
    return f"{duckdb_address(output, 'scores')}/{table_files(open_table(output, 'scores'))[0]}"


def snapshot(output):
    return {entry.key: (entry.size, entry.etag) for entry in open_store(output).list()}


def filled_in(text, own, tmp_path):
    other = tmp_path / "other.parquet"
    sql.open_database(str(tmp_path)).execute(f"copy (select 1 as a) to {sql.literal(str(other))}")
    folder = own.partition("/model=")[0]
    return text.format(other=other, own=own, folder=folder, new=tmp_path / "new")


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_are_answered(tables, question):
    with tables.answer(question) as answer:
        assert answer is None or answer.to_arrow_table().num_rows


@pytest.mark.parametrize("text", REACHING)
def test_whatever_reaches_further_is_refused(output, tables, own, tmp_path, text):
    text, before = filled_in(text, own, tmp_path), snapshot(output)
    files = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises((NotAnswered, NotAQuestion)), tables.answer(text) as answer:
        assert answer is None or answer.to_arrow_table().num_rows
    assert snapshot(output) == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == files


@pytest.mark.parametrize(
    "text", ["select * from read_text('/etc/hostname')", "set enable_external_access = true", "load httpfs"]
)
def test_the_lock_holds_below_the_check_of_statements(tables, text):
    """As for the report's own SQL, which nobody checks."""
    with pytest.raises(duckdb.Error, match="disabled|locked"):
        tables.connection.execute(text)


def test_the_refusal_names_the_flag(tables):
    for text in ("select * from read_text('/etc/passwd')", "copy scores to '/tmp/x'"):
        with pytest.raises((NotAnswered, NotAQuestion), match="--allow-files"), tables.answer(text):
            pass


def test_files_are_read_and_written_when_allowed(output, tmp_path):
    limits = tmp_path / "limits.csv"
    limits.write_text("uri,limit_score\ns3://line/b,3\n")
    tables = open_tables(output, tmp_path / "scratch", allow_files=True)
    joined = f"select uri, score > limit_score from scores join read_csv('{limits}') using (uri)"
    with tables.answer(joined) as answer:
        assert answer.fetchall() == [("s3://line/b", True)]
    with tables.answer(f"copy ({joined}) to '{tmp_path}/out.csv'") as answer:
        assert answer is None or answer.to_arrow_table().num_rows
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("s3://line/b,")


def test_the_tables_on_s3_cannot_be_written_even_when_files_are_allowed(s3_bucket, tmp_path):
    published(s3_bucket, [("2026-01-01", [scored("a", 1.5)])])
    own = f"{duckdb_address(s3_bucket, 'scores')}/{table_files(open_table(s3_bucket, 'scores'))[0]}"
    before = snapshot(s3_bucket)
    with (
        pytest.raises(NotAnswered, match="can only be read"),
        open_tables(s3_bucket, tmp_path, True).answer(f"copy (select 1) to '{own}'") as answer,
    ):
        answer.fetchall()
    assert snapshot(s3_bucket) == before


def test_sorting_still_goes_to_scratch(output, tmp_path):
    connection = sql.open_database(output, tmp_path / "spill", memory_mb=64, threads=1)
    sql.lock(connection, [])
    ordered = connection.sql("select hash(i) as h, repeat('x', 90) || i as t from range(600000) r(i) order by h, t")
    assert 600_000 == sum(len(batch) for batch in ordered.to_arrow_reader(50_000))


def test_no_question_is_hidden_in_brackets():
    with duckdb.connect() as connection:
        for text in ("pivot (select 1 a) on a) ; copy (select 1) to 'x'; select (1", "copy (pivot (select 1 a) on a) to 'x'"):
            with pytest.raises((NotAQuestion, duckdb.ParserException)):
                check_question(connection, text)
