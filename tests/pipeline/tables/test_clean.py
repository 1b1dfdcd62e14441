"""Cleaning beside commits of other programs, and of tables that lay idle."""

import os
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from own_time import set_time
from sealed_slices import create, seal
from tiny_publications import publish_images, set_clock, write_images

from pipeline.state import dated_names
from pipeline.state.entries import read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change, Publications
from pipeline.storage.objects import Gone, StorageError
from pipeline.tables import clean as module
from pipeline.tables.changes import commit_files, schema_text
from pipeline.tables.clean import clean
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.files import data_files
from pipeline.tables.publication import Draft, publish
from pipeline.tables.query import open_tables


@pytest.fixture
def output(tmp_path):
    return str(tmp_path)


@pytest.fixture
def days_ago(monkeypatch, tmp_path):
    """Makes it a moment in the past; the logs that are there become as old."""

    def go(days):
        set_clock(monkeypatch, datetime.now(UTC) - timedelta(days=days), module)

    return go


def age_logs(tmp_path, days):
    for path in tmp_path.glob("*/_delta_log/*"):
        at = path.stat().st_mtime - days * 86_400
        os.utime(path, (at, at))


def images(output):
    with open_tables(output).answer("select image_id from scores order by all") as answer:
        return [image for (image,) in answer.fetchall()]


def test_readers_keep_rows_whose_files_another_program_replaced_long_ago(output, days_ago, tmp_path):
    days_ago(100)
    publish_images(output, "one", ["a", "b"])
    table = open_table(output, "scores")
    commit_files(table, write_images(output, "scores", "one", ["a", "b"]), tuple(data_files(table)), None)
    age_logs(tmp_path, 100)
    days_ago(0)
    assert clean(output)["files of scores"] == 1
    assert images(output) == ["a", "b"]
    publish_images(output, "two", ["c"])
    assert images(output) == ["c"]


def test_a_file_stays_for_a_week_more_than_the_rollback_window_also_when_checkpoints_are_made(output, days_ago, tmp_path):
    days_ago(99)
    publish_images(output, "one", ["a"])
    first = tmp_path / "scores" / data_files(open_table(output, "scores"))[0].path
    at = first.stat().st_mtime - 99 * 86_400
    os.utime(first, (at, at))
    days_ago(92)
    publish_images(output, "two", ["b"])
    age_logs(tmp_path, 92)
    days_ago(0)
    clean(output)
    assert first.exists()


def test_a_publisher_who_slept_after_looking_at_his_files_names_none_that_is_gone(output, tmp_path):
    publish_images(output, "one", ["a"])
    files = write_images(output, "scores", "two", ["b"], {"model": "other", "period": "2026-01"})
    columns = schema_text(TABLES["scores"].SCHEMA)
    slept = []

    def row(number):
        slept.append(number)
        for file in files:
            os.utime(tmp_path / "scores" / file.path, (0, 0))
        clean(output)
        return Change()

    def prepare(seal, opened):
        return Draft(seal, "other", "slice", {"scores": Change(files, (), columns)}, seal.number + 1, row=row)

    with pytest.raises(StorageError, match="must have"):
        publish(output, prepare)
    assert slept == [2] and images(output) == ["a"]


def test_files_that_a_killed_publisher_left_of_a_table_that_does_not_exist_are_deleted(output, tmp_path):
    publish_images(output, "one", ["a"])
    old, new = (write_images(output, "errors", "two", [image])[0].path for image in "bc")
    os.utime(tmp_path / "errors" / old, (0, 0))
    assert clean(output)["files of errors"] == 1
    assert [(tmp_path / "errors" / path).exists() for path in (old, new)] == [False, True]
    publish_images(output, "three", ["d"])
    assert images(output) == ["d"]


def test_a_version_stays_readable_that_was_the_newest_within_the_retention(output, days_ago, tmp_path):
    for days in (200, 100, 1):
        days_ago(days)
        publish_images(output, f"unit-{days}", ["a"])
    age_logs(tmp_path, 95)
    days_ago(0)
    clean(output)
    versions = [Publications(output).seal(number).versions["scores"] for number in (1, 2, 3)]
    with pytest.raises(Gone, match="version .* of the table scores .* is not any more"):
        open_table(output, "scores", versions[0])
    for version in versions[1:]:
        assert len(data_files(open_table(output, "scores", version))) == 1


def test_parts_of_plannings_that_no_slice_came_of_are_deleted_after_the_rollback_window(output, monkeypatch):
    ledger = Ledger(output, "tiles")
    create(ledger)
    seal(ledger, {"a": ("e", "s", "none")})
    names = []
    for days in (100, 80):
        set_clock(monkeypatch, datetime.now(UTC) - timedelta(days=days), dated_names)
        names.append(dated_names.new_name())
        ledger.store.put(ledger.part_key(names[-1], "objects"), b"of a planner that was killed")
    named = read_slice(ledger, 2).parts[0].name
    assert clean(output)["files of plannings of tiles that no slice came of"] == 1
    assert {entry.key.split("/")[4] for entry in ledger.store.list(f"{ledger.prefix}/parts/")} == {named, names[1]}


@pytest.mark.parametrize("conflicts", [2, 1_000])
def test_a_cleaning_beside_others_that_commit_tries_again_and_then_leaves_it(output, monkeypatch, conflicts):
    said = []
    monkeypatch.setattr(module.log, "warning", lambda *words: said.append(words[0] % words[1:]))
    publish_images(output, "one", ["a"])
    real, tried = DeltaTable.vacuum, []

    def vacuum(table, **options):
        if table.table_uri.rstrip("/").endswith("scores") and len(tried) < conflicts:
            tried.append(table)
            raise CommitFailedError("a concurrent transaction deleted data this operation read")
        return real(table, **options)

    monkeypatch.setattr(DeltaTable, "vacuum", vacuum)
    set_time(monkeypatch, module, sleep=lambda seconds: None)
    assert clean(output)["files of scores"] == 0
    assert len(tried) == min(conflicts, module.TRIES) == len(set(map(id, tried)))
    assert len(said) == (conflicts > module.TRIES) and all("scores are left to a later cleaning" in line for line in said)
    assert images(output) == ["a"]
