"""What a compaction merges, when `score` does it, and which maps it drops."""

from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from tiny_publications import PARTITION, publish_images, set_clock, write_images

from pipeline.state.ledger import Ledger
from pipeline.state.publications import Change, DataFile, Manifest, Publications
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import Denied
from pipeline.tables import compaction
from pipeline.tables.changes import schema_text
from pipeline.tables.compaction import DUE_FILES, TIER, compact, compact_if_due, groups, spare
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.files import data_files
from pipeline.tables.publication import Draft, publish
from pipeline.tables.writer import FILE_BYTES


@pytest.fixture
def hours_ago(monkeypatch):
    return lambda hours: set_clock(monkeypatch, datetime.now(UTC) - timedelta(hours=hours), compaction)


@pytest.fixture
def said(monkeypatch):
    """What is logged, whatever others have done to logging."""
    lines = []
    for level in ("info", "warning"):
        monkeypatch.setattr(compaction.log, level, lambda *words: lines.append(words[0] % words[1:]))
    return lines


def units_of_maps(tmp_path):
    files = data_files(open_table(str(tmp_path), "maps"))
    return [row["unit_id"] for file in files for row in pq.ParquetFile(tmp_path / "maps" / file.path).read().to_pylist()]


@pytest.mark.parametrize(
    "published, kept",
    [
        ((30, 20, 10), ["unit-10", "unit-20", "unit-30"]),
        ((50, 30, 10), ["unit-10", "unit-30"]),
        ((90, 50, 30), ["unit-30"]),
        ((20, 10, 5), ["unit-10", "unit-20", "unit-5"]),
    ],
)
def test_maps_of_every_version_of_a_day_stay(tmp_path, hours_ago, published, kept):
    """Somebody may be joining maps with any version of scores that was the newest within a day."""
    for hours in published:
        hours_ago(hours)
        publish_images(str(tmp_path), f"unit-{hours}", ["a"])
    hours_ago(0)
    assert compact(Ledger(str(tmp_path), "tiles"))["maps"] == (3, 1)
    assert sorted(units_of_maps(tmp_path)) == kept


def append(output, number, names=("scores", "maps"), model="tiles", images=None, handles=None):
    """A slice with one image of its own, in a file of each table."""
    partition = PARTITION | {"model": model}
    files = {name: write_images(output, name, f"unit-{number}", images or [f"i{number:03d}"], partition) for name in names}
    changes = {name: Change(files[name], (), schema_text(TABLES[name].SCHEMA)) for name in names}
    publish(output, lambda seal, _: Draft(seal, model, "slice", changes, number), handles)


def images_of(tmp_path, name, model="tiles"):
    files = [file for file in data_files(open_table(str(tmp_path), name)) if file.partition["model"] == model]
    read = [pq.ParquetFile(tmp_path / name / file.path).read(columns=["image_id"]) for file in files]
    return len(files), sorted(image for table in read for image in table["image_id"].to_pylist())


def sized(*sizes):
    return [DataFile(f"{number:04d}", size, {}) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "sizes, merged",
    [
        ((10, 10, 10), [[10, 10, 10]]),
        ((10, 21), []),
        ((10, 20, 60, 181), [[10, 20, 60]]),
        ((1, 10, 10), [[10, 10]]),
        ((1, 1, 10, 10), [[1, 1], [10, 10]]),
        ((FILE_BYTES // 2, FILE_BYTES // 2 + 1, FILE_BYTES // 2), [[FILE_BYTES // 2] * 2]),
        ((FILE_BYTES // 2,) * 3, [[FILE_BYTES // 2] * 2]),
        ((FILE_BYTES // 3,) * 5, [[FILE_BYTES // 3] * 3, [FILE_BYTES // 3] * 2]),
    ],
)
def test_a_night_merges_a_file_with_all_smaller_ones_that_are_half_as_large_together(sizes, merged):
    assert [[file.size for file in group] for group in groups(sized(*sizes), TIER, FILE_BYTES // 2)] == merged


@pytest.mark.parametrize(
    "sizes, merged",
    [
        ((10, 20, 60, 500), [[10, 20, 60, 500]]),
        ((10,), []),
        ((FILE_BYTES // 2 + 1, 10, 10), [[10, 10]]),
        ((FILE_BYTES // 2,) * 3, [[FILE_BYTES // 2] * 2]),
    ],
)
def test_a_command_merges_whatever_is_small(sizes, merged):
    assert [[file.size for file in group] for group in groups(sized(*sizes))] == merged


@pytest.mark.parametrize("nights, files_at_most, rewritten_at_most", [(100, 20, 4), (1_000, 23, 7), (10_000, 27, 11)])
def test_files_and_rewriting_grow_with_the_logarithm_of_the_nights(nights, files_at_most, rewritten_at_most):
    files, rewritten, most = [], 0, 0
    for _ in range(nights):
        files = sized(*(file.size for file in files), 1_000)
        found = list(groups(files, TIER))
        if sum(len(group) - 1 for group in found) >= DUE_FILES:
            merged = [sum(file.size for file in group) for group in found]
            rewritten += sum(merged)
            gone = {file.path for group in found for file in group}
            files = sized(*(file.size for file in files if file.path not in gone), *merged)
        most = max(most, len(files))
    assert sum(file.size for file in files) == nights * 1_000
    assert most <= files_at_most and rewritten <= rewritten_at_most * nights * 1_000


def test_score_merges_once_that_rids_a_table_of_enough_files(tmp_path, monkeypatch):
    output, ledger, asked, original = str(tmp_path), Ledger(str(tmp_path), "tiles"), [], LocalStore.list

    def requests_of_a_merge(handles):
        with monkeypatch.context() as patch:
            patch.setattr(LocalStore, "list", lambda *args: asked.append(args) or original(*args))
            compact_if_due(ledger, handles)
        return len(asked)

    for number in range(1, DUE_FILES + 2):
        handles = {}
        append(output, number, handles=handles)
        assert bool(requests_of_a_merge(handles)) == (number > DUE_FILES), "one that is not due costs no request"
    everything = [f"i{number:03d}" for number in range(1, DUE_FILES + 2)]
    assert images_of(tmp_path, "scores") == images_of(tmp_path, "maps") == (1, everything)
    manifest = Publications(output).manifest(DUE_FILES + 2)
    assert (manifest.kind, Publications(output).last_seal().number) == ("compaction", DUE_FILES + 2)


def test_files_are_spare_that_a_command_would_merge_away():
    other = [file._replace(partition={**file.partition, "period": "2026-02"}) for file in sized(1, 2)]
    assert spare([*sized(1, 1, 1, FILE_BYTES), *other]) == 2 + 1
    assert spare(sized(1)) == spare([]) == 0


def test_a_ledger_merges_files_of_its_own(tmp_path):
    for number in range(1, 4):
        append(str(tmp_path), number)
        append(str(tmp_path), number, model="plates")
    assert compact(Ledger(str(tmp_path), "tiles")) == {"maps": (3, 1), "scores": (3, 1)}
    assert images_of(tmp_path, "scores", "plates")[0] == 3


def test_an_error_of_storage_leaves_the_merge_to_a_later_command(tmp_path, monkeypatch, said):
    handles = {}
    for number in range(1, DUE_FILES + 2):
        append(str(tmp_path), number, handles=handles)

    def refuse(store, key, path):
        raise Denied("no more room")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_new_file", refuse)
        compact_if_due(Ledger(str(tmp_path), "tiles"), handles)
    assert said[0] == "model tiles: merging small files of the tables"
    assert "a later command does it. no more room" in said[1]
    assert images_of(tmp_path, "scores")[0] == DUE_FILES + 1
    compact_if_due(Ledger(str(tmp_path), "tiles"), handles)
    assert images_of(tmp_path, "scores")[0] == 1


def test_of_two_drivers_that_merge_one_does(tmp_path, monkeypatch, said):
    output, ledger, handles = str(tmp_path), Ledger(str(tmp_path), "tiles"), {}
    for number in range(1, DUE_FILES + 2):
        append(output, number, handles=handles)
    real, todo = Manifest.text, [lambda: compact(ledger)]

    def text(manifest):
        if todo:
            todo.pop()()
        return real(manifest)

    monkeypatch.setattr(Manifest, "text", text)
    compact_if_due(ledger, handles)
    assert "another driver was first" in said[-1]
    assert Publications(output).last_seal().number == DUE_FILES + 2
    assert images_of(tmp_path, "scores") == (1, [f"i{number:03d}" for number in range(1, DUE_FILES + 2)])


def test_only_versions_just_before_a_publication_of_the_ledger_are_opened(tmp_path, hours_ago, monkeypatch):
    """Others may be so old that they are cleaned, and other ledgers may publish a thousand times a day."""
    opened = []

    def watched(output, name, version=None):
        opened.append(version)
        return open_table(output, name, version)

    for hours, model in ((4_000, "tiles"), (100, "plates"), (50, "plates"), (10, "tiles"), (9, "plates"), (8, "plates")):
        hours_ago(hours)
        append(str(tmp_path), 5_000 - hours, model=model)
    hours_ago(0)
    monkeypatch.setattr(compaction, "open_table", watched)
    assert compact(Ledger(str(tmp_path), "tiles"))["maps"] == (2, 1)
    assert opened == [Publications(str(tmp_path)).seal(3).versions["scores"]]


def test_maps_stay_for_readers_of_files_that_another_program_wrote(tmp_path, hours_ago):
    """Between two publications another program merges files of scores, and the merged ones are cleaned."""
    output = str(tmp_path)
    hours_ago(100)
    append(output, 1)
    append(output, 2)
    before = data_files(open_table(output, "scores"))
    DeltaTable(f"{output}/scores").optimize.compact()
    for file in before:
        (tmp_path / "scores" / file.path).unlink()
    hours_ago(10)
    publish_images(output, "unit-new", ["a"])
    hours_ago(0)
    compact(Ledger(output, "tiles"))
    assert sorted(units_of_maps(tmp_path)) == ["unit-1", "unit-2", "unit-new"]


def test_files_of_scores_are_read_until_all_images_are_found(tmp_path, hours_ago, monkeypatch):
    """So a merge of new maps does not read an archive's scores."""
    read, handles, original = [], {}, compaction.open_ranged
    hours_ago(100)
    append(str(tmp_path), 1, images=[f"old{number}" for number in range(5_000)])
    (large,) = data_files(open_table(str(tmp_path), "scores"))
    hours_ago(50)
    append(str(tmp_path), 2)
    append(str(tmp_path), 3, handles=handles)
    hours_ago(0)
    monkeypatch.setattr(compaction, "open_ranged", lambda store, key: read.append(key) or original(store, key))
    monkeypatch.setattr(compaction, "DUE_FILES", 1)
    compact_if_due(Ledger(str(tmp_path), "tiles"), handles)
    assert [images_of(tmp_path, name)[0] for name in ("maps", "scores")] == [2, 2]
    assert f"scores/{large.path}" not in read and len(read) == 6


def test_a_night_leaves_large_files_to_the_command(tmp_path, monkeypatch):
    handles = {}
    for number in range(1, DUE_FILES + 2):
        append(str(tmp_path), number, handles=handles)
    monkeypatch.setattr(compaction, "NIGHT_BYTES", min(file.size for file in data_files(handles["scores"])) - 1)
    compact_if_due(Ledger(str(tmp_path), "tiles"), {"scores": handles["scores"]})
    assert images_of(tmp_path, "scores")[0] == DUE_FILES + 1
    assert compact(Ledger(str(tmp_path), "tiles"))["scores"] == (DUE_FILES + 1, 1)
