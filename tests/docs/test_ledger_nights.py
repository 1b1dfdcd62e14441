"""The script of docs/benchmarks/ledger that lives nights, with few of them."""

from datetime import timedelta

import docs_script
import pytest

from pipeline.state import dated_names, inventory
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Publications
from pipeline.tables import changes, clean, compaction, publication
from pipeline.tables.delta import open_table
from pipeline.tables.files import data_files


@pytest.fixture
def nights(monkeypatch):
    for module in (publication, compaction, clean, inventory, dated_names):
        monkeypatch.setattr(module, "datetime", module.datetime)  # the script sets the clock: it is set back afterwards
    monkeypatch.setattr(changes, "_now_ms", changes._now_ms)
    monkeypatch.syspath_prepend(docs_script.DOCS.parent / "tests" / "histories")
    return docs_script.load("benchmarks/ledger/nights.py")


def test_nights_are_days_that_score_merges(nights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compaction, "DUE_FILES", 2)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"w")
    for night in range(4):
        nights.make_images(tmp_path, night)
        for ledger in range(2):
            nights.score(tmp_path, night, ledger, 204, "none")
    output = str(tmp_path / "out")
    files = data_files(open_table(output, "scores"))
    assert sorted(file.partition["model"] for file in files) == ["model0", "model0", "model1", "model1"]
    publications = Publications(output)
    days = [publications.seal(number).sealed_at[:10] for number in range(1, publications.seals.newest() + 1)]
    assert len(set(days)) == 4 and publications.manifest(6).kind == "compaction"

    monkeypatch.setattr(clean, "VACUUM_DAYS", clean.VACUUM_DAYS)
    logs = set()
    nights.age_logs(tmp_path / "out", timedelta(-200), logs)
    nights.set_clock(timedelta(0))
    nights.clean_up(output, timedelta(0))
    assert len(logs) > 6 and not (tmp_path / "out" / "scores" / "_delta_log" / f"{0:020}.json").exists()

    nights.copy(tmp_path / "out", str(tmp_path / "copy"))
    nights.read(str(tmp_path / "copy"), 2)
    said = capsys.readouterr().out
    assert "2 of maps" in said and said.count("first query") == 2
    assert Publications(output).seals.newest() == 11, "a cleaning has one of its own"
    assert not Ledger(str(tmp_path / "copy"), "model0").entries.newest()
