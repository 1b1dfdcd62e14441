import json

import pyarrow.parquet as pq
import pytest
from fake_run import failed, published, scored

from jobs.command.entry import run
from jobs.query import main


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
