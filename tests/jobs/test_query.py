import json

import pyarrow.parquet as pq
import pytest
from fake_run import MODEL, failed, published, scored, write_slice

from jobs.command.entry import run
from jobs.query import main
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.tally import add_up
from pipeline.tables.delta import TABLES


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("output"))
    published(output, [("2026-01-01", [scored("a", 1.5), scored("b", 3.25), failed("c")])])
    return output


@pytest.fixture
def ask(output, capsys):
    def call(*arguments, where=output, code=0):
        with pytest.raises(SystemExit) as ended:
            run(main, ["--output", str(where), *arguments])
        shown = capsys.readouterr()
        assert ended.value.code == code, shown.err
        return shown

    return call


def test_printed_forms(ask):
    question = "select uri, score, captured_at is null as unknown from scores order by score desc"
    table = ask(question).out
    assert "s3://line/b" in table and "3.25" in table and "score" in table
    lines = ask(question, "--csv").out.splitlines()
    assert lines == ['"uri","score","unknown"', '"s3://line/b",3.25,false', '"s3://line/a",1.5,false']
    rows = [json.loads(line) for line in ask(question, "--json").out.splitlines()]
    assert rows == [
        {"uri": "s3://line/b", "score": 3.25, "unknown": False},
        {"uri": "s3://line/a", "score": 1.5, "unknown": False},
    ]


def test_binary_columns_and_files(ask, tmp_path):
    (row,) = ask("select map from maps limit 1", "--json").out.splitlines()
    assert len(bytes.fromhex(json.loads(row)["map"])) == 48
    ask("select image_id, map, captured_at from maps join scores using (image_id)", "--parquet", str(tmp_path / "x"))
    written = pq.read_table(tmp_path / "x")
    assert written.num_rows == 2 and len(written["map"][0].as_py()) == 48


def test_faults_are_one_line(ask, tmp_path):
    assert "DuckDB says" in ask("select nonsense from scores", code=2).err
    assert "--csv" in ask("select 1", "--csv", "--json", code=2).err
    nothing = ask("select 1", where=tmp_path / "nothing", code=2).err
    assert nothing.startswith("error: output must hold tables") and nothing.count("\n") == 1


def test_a_table_without_rows_is_explained(ask):
    ended = ask("select lot, state from LOTS", "--csv")
    assert "note: lots has no rows yet" in ended.err and ended.out == '"lot","state"\n'


def test_only_what_is_documented_is_listed(ask):
    """Also no view of ours that holds the columns of a table without rows."""
    names = sorted(TABLES)
    assert ask("show tables", "--csv").out.split() == ['"name"', *(f'"{name}"' for name in names)]
    assert ask("select table_name from information_schema.tables order by all", "--csv").out.split()[1:] == [
        f'"{name}"' for name in names
    ]


def test_each_of_several_questions_is_answered(ask):
    shown = ask("select 11 as first; create temp table t as select 22 as kept; select kept as second from t;").out
    assert [word for word in shown.replace("│", " ").split() if word in ("first", "11", "second", "22", "kept", "Count")] == [
        *("first", "11"),
        *("second", "22"),
    ]


@pytest.mark.parametrize("form", [("--csv",), ("--json",), ("--parquet", "x.parquet")])
@pytest.mark.parametrize(
    ("question", "questions"),
    [("select 1; select 2", 2), ("select 1; pivot errors on stage", 2)],
)
def test_a_file_and_lines_hold_one_answer(ask, tmp_path, monkeypatch, form, question, questions):
    monkeypatch.chdir(tmp_path)
    shown = ask(question, *form, code=2)
    assert shown.err == (
        f"error: the query must be one question with --csv, --json and --parquet; got '{questions} questions'. "
        "Ask them one by one, or leave the form out: then each is printed as a table.\n"
    )
    assert shown.out == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nothing", [" ; ", "/* select 1 */", "create temp table t as select 1"])
def test_what_asks_for_nothing_is_refused(ask, nothing):
    said = ask(nothing, code=2).err
    assert said.startswith("error: the query must be a question") and said.count("\n") == 1


def test_one_question_may_need_statements_before_it(ask):
    assert (
        ask("create temp table t as select max(score) as most from scores; select most from t", "--csv").out == '"most"\n3.25\n'
    )


def test_a_result_is_not_written_to_an_address(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("s3://bucket/x.parquet", "file:///tmp/x.parquet", "gs://bucket/x.parquet"):
        said = ask("select nonsense", "--parquet", address, code=2).err
        assert said == (
            f"error: --parquet must be a file on this machine; got '{address.replace(':///', '://')}'. "
            "Write it to a file here, and copy that.\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_what_duckdb_says_is_one_line(ask):
    for question in ("select nonsense from scores", "select\n  from", "select * from score", "select 'a"):
        said = ask(question, code=2).err
        assert said.count("\n") == 1 and "DuckDB says: " in said and "Traceback" not in said


def test_errors_of_a_held_slice_are_read_before_anything_is_published(ask, tmp_path):
    """The first night of an output may be held."""
    number = write_slice(tmp_path, [("2026-01-01", [scored("a", 1.5), failed("c")])])
    assert "--unpublished" in ask("select * from errors", where=tmp_path, code=2).err
    ledger = Ledger(str(tmp_path), MODEL)
    add_up(ledger, number, read_slice(ledger, number))
    shown = ask("select slice, error, uri, lot, line from errors", "--unpublished", "--csv", where=tmp_path)
    assert shown.out.splitlines() == ['"slice","error","uri","lot","line"', f'{number},"truncated","s3://line/c","lot1","7"']
    assert shown.err == f"note: slice {number} of model {MODEL} is not published: 1 scored, 1 in errors\n"
    nothing = ask("from errors", "--unpublished", where=tmp_path / "nothing")
    assert nothing.err == "note: no slice waits: what is scored is published\n"
