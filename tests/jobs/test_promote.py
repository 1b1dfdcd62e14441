from types import SimpleNamespace

import pytest
from published_rows import new_ledger

from jobs import promote
from jobs.command.entry import run
from pipeline.state.entries import Head, Promotion, add_entry, read_head


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Promotes a model of the digest `new`, which is not looked at."""
    (tmp_path / "model").mkdir()
    config = SimpleNamespace(name="tiles", model_dump=lambda mode: {})
    opened = SimpleNamespace(config=config, model_digest="new", directory=tmp_path / "model")
    monkeypatch.setattr(promote, "model_folder", lambda uri, cache: uri)
    monkeypatch.setattr(promote, "artifact", SimpleNamespace(read=lambda path: opened, check=lambda opened: None))

    def called(*arguments):
        with pytest.raises(SystemExit) as ended:
            run(promote.main, ["--model", "model", "--output", str(tmp_path / "out"), *arguments])
        shown = capsys.readouterr()
        return ended.value.code, shown.out or shown.err

    return called


@pytest.fixture
def ledger(tmp_path):
    ledger = new_ledger(tmp_path / "out", None)
    add_entry(ledger, read_head(ledger), Promotion(digest="old", artifact={}))
    return ledger


@pytest.mark.parametrize(("last", "first"), [("2026-01-31", "2026-02-01"), ("2028-02-28", "2028-02-29"), (None, None)])
def test_the_day_after_the_last_one_with_images_is_the_first(last, first):
    assert promote.first_day(Head(number=3, last_day=last)) == first


def test_from_a_day_on(ledger, call):
    assert call("--from", "2026-03-01") == (0, "model tiles: digest new scores from 2026-03-01 on\n")
    head = read_head(ledger)
    assert (head.digest_of("2026-02-28"), head.digest_of("2026-03-01")) == ("old", "new")
    assert call("--from", "2026-03-01") == (0, "model tiles: digest new is promoted already\n")
    assert read_head(ledger) == head


def test_without_days_from_now_on(ledger, call):
    assert call() == (0, "model tiles: digest new scores from now on\n")


def test_what_is_no_day(ledger, call):
    code, said = call("--from", "1 March")
    assert code == 2 and said == "error: --from must be a day such as 2026-01-31; got '1 March'. Correct it.\n"


def test_a_model_that_never_scored_there(call):
    code, said = call()
    assert code == 2 and "a place where model tiles has scored" in said
