import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.tables import sql


def test_names_with_quotes_are_read(tmp_path):
    path = tmp_path / "it's.parquet"
    pq.write_table(pa.table({'odd "name"': [1, 2]}), path)
    with sql.open_database(str(tmp_path)) as connection:
        column = sql.name('odd "name"')
        found = connection.sql(f"select {column} from read_parquet({sql.file_list([path])})").fetchall()
    assert found == [(1,), (2,)]


def test_sorting_goes_to_disk_when_memory_is_small(tmp_path):
    with sql.open_database(str(tmp_path), tmp_path / "spill", memory_mb=64, threads=1) as connection:
        ordered = connection.sql("select hash(i) as h, repeat('x', 90) || i as t from range(600000) r(i) order by h, t")
        last, count = 0, 0
        for batch in ordered.to_arrow_reader(50_000):
            first = batch["h"][0].as_py()
            assert first >= last
            last, count = batch["h"][-1].as_py(), count + len(batch)
    assert count == 600_000


def test_of_the_worst_thousand_other_columns_are_read_of_their_rows_only(tmp_path):
    path = tmp_path / "scores.parquet"
    pq.write_table(pa.table({"score": range(5000), "text": [f"text {i}" for i in range(5000)]}), path)
    with sql.open_database(str(tmp_path)) as connection:
        connection.execute(f"create view scores as select text, score from read_parquet({sql.file_list([path])})")
        worst = "select * from scores order by score desc limit 1000"
        assert "file_row_number" in connection.sql(f"explain {worst}").fetchall()[0][1]
        rows = connection.sql(worst).fetchall()
    assert rows == [(f"text {i}", i) for i in range(4999, 3999, -1)]
