"""The publication protocol with tiny files: kills, lost answers, two publishers, other programs."""

import shutil
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from own_time import set_time

from pipeline.state.publications import Change, Publications, Seal
from pipeline.storage.local import LocalStore
from pipeline.storage.objects import Denied
from pipeline.storage.store import open_store
from pipeline.tables import foreign, publication
from pipeline.tables.changes import schema_text
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.files import data_files
from pipeline.tables.publication import Draft, complete, publish, settled
from pipeline.tables.query import open_tables
from pipeline.tables.writer import PartitionWriter

MONTH = {"model": "tiles", "period": "2026-01"}


def write(output, table, names, model="tiles"):
    """A data file with a row for each name, not in any table yet."""
    schema = TABLES[table].SCHEMA
    fixed = {"model": model, "period": "2026-01", "date": "2026-01-01"}
    rows = [{column.name: fixed.get(column.name, _cell(column, name)) for column in schema} for name in names]
    with TemporaryDirectory() as scratch:
        with PartitionWriter(open_store(output), table, schema, MONTH | {"model": model}, "test", Path(scratch)) as writer:
            writer.write(pa.Table.from_pylist(rows, schema))
    return tuple(writer.files)


def _cell(column, name):
    if pa.types.is_string(column.type):
        return name
    return None if column.nullable else 0


def change(table, add=(), remove=()):
    return Change(tuple(add), tuple(remove), schema_text(TABLES[table].SCHEMA))


def appending(output, slice_number, names, model="tiles"):
    """Publishes rows of a slice once, whoever asks; counts how often files were written."""
    written = []

    def prepare(seal, opened):
        if seal.closed(model).holds(slice_number):
            return None
        written.append(slice_number)
        changes = {name: change(name, write(output, name, names, model)) for name in ("scores", "maps")}
        return Draft(seal, model, "slice", changes, slice_number)

    return prepare, written


def merging(output, model="tiles"):
    """Merges the files of scores into one."""

    def prepare(seal, opened):
        files = [file for file in data_files(opened["scores"]) if file.partition["model"] == model]
        if len(files) < 2:
            return None
        names = [row["image_id"] for row in rows(output) if row["model"] == model]
        return Draft(seal, model, "compaction", {"scores": change("scores", write(output, "scores", names, model), files)})

    return prepare


def rows(output):
    table = open_table(output, "scores")
    return [] if table is None else table.to_pyarrow_table(columns=["image_id", "model"]).to_pylist()


def images(output):
    return sorted(row["image_id"] for row in rows(output))


def sealed_images(output):
    return sorted(name for (name,) in open_tables(output).connection.sql("select image_id from scores").fetchall())


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "out")


def test_a_publication_is_one_step_for_readers(output):
    prepare, written = appending(output, 3, ["a", "b"])
    seal = publish(output, prepare)
    assert (seal.number, seal.closed("tiles").through) == (1, 3)
    assert set(seal.versions) == {"scores", "maps"} and sealed_images(output) == ["a", "b"]
    assert publish(output, prepare) is None and written == [3]
    assert publish(output, appending(output, 5, ["c"])[0]).number == 2
    table = DeltaTable(f"{output}/scores")
    assert table.transaction_version("flowscore") == 2 and table.version() == seal.versions["scores"] + 1


def test_readers_see_the_last_seal_only(output):
    publish(output, appending(output, 3, ["a"])[0])
    prepare, _ = appending(output, 4, ["b"])
    draft = prepare(settled(output), {})
    manifest = _manifest(draft, 2)
    Publications(output).manifests.put_new(2, manifest.text())
    publication._changed(output, "maps", manifest.changes["maps"], manifest, "flowscore", 1, {})
    publication._changed(output, "scores", manifest.changes["scores"], manifest, "flowscore", 1, {})
    assert images(output) == ["a", "b"] and sealed_images(output) == ["a"]
    assert settled(output).number == 2 and sealed_images(output) == ["a", "b"]


def _manifest(draft, number):
    return publication.Manifest(
        number, uuid.uuid4().hex, draft.model, draft.kind, draft.slice, draft.skipped, draft.changes, "now"
    )


class Killed(BaseException):
    pass


def kill_at(monkeypatch, boundary):
    """Raise Killed before the boundary-th step that changes storage."""
    passed = []

    def wrap(owner, method):
        original = getattr(owner, method)

        def step(*args, **kwargs):
            if len(passed) == boundary:
                raise Killed(f"before {method}")
            passed.append(method)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, method, staticmethod(step) if method == "create" else step)

    for method in ("put_new", "put_new_file"):
        wrap(LocalStore, method)
    for method in ("create", "create_write_transaction"):
        wrap(DeltaTable, method)
    return passed


def test_a_kill_at_any_step_changes_nothing_in_the_end(tmp_path):
    template = tmp_path / "template"
    publish(str(template), appending(str(template), 3, ["a"])[0])
    publish(str(template), appending(str(template), 4, ["b"])[0])
    boundary, finished = 0, False
    while not finished:
        output = str(tmp_path / f"killed-{boundary}")
        shutil.copytree(template, output)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, boundary)
            try:
                publish(output, merging(output))
                publish(output, appending(output, 7, ["c"])[0])
                finished = True
            except Killed:
                pass
        assert sealed_images(output) in (["a", "b"], ["a", "b", "c"])
        publish(output, merging(output))
        publish(output, appending(output, 7, ["c"])[0])
        assert images(output) == sealed_images(output) == ["a", "b", "c"], f"after a kill at step {boundary}"
        shutil.rmtree(output)
        boundary += 1
    assert boundary > 8


@pytest.mark.parametrize("lost", ["publications", "published"])
def test_lost_answers_of_manifest_and_seal(output, monkeypatch, lost):
    real = LocalStore.put_new

    def put_new(store, key, body):
        return real(store, key, body) and f"/{lost}/" not in f"/{key}"

    monkeypatch.setattr(LocalStore, "put_new", put_new)
    for number in (3, 4):
        prepare, written = appending(output, number, [str(number)])
        publish(output, prepare)
        assert written == [number]
    assert sealed_images(output) == images(output) == ["3", "4"]


def test_a_lost_answer_of_a_table_commit(output, monkeypatch):
    real = DeltaTable.create_write_transaction

    def commit(table, *args, **options):
        real(table, *args, **options)
        raise CommitFailedError("conflict with our own commit")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
    publish(output, appending(output, 3, ["a"])[0])
    assert images(output) == sealed_images(output) == ["a"]


def meanwhile(monkeypatch, deed):
    """Does the deed once, just before the next manifest is put."""
    real = publication.Manifest.text
    todo = [deed]

    def text(manifest):
        if todo:
            todo.pop()()
        return real(manifest)

    monkeypatch.setattr(publication.Manifest, "text", text)


def test_another_ledger_in_between_costs_no_file(output, monkeypatch):
    publish(output, appending(output, 3, ["a"])[0])
    meanwhile(monkeypatch, lambda: publish(output, appending(output, 3, ["x"], "other")[0]))
    prepare, written = appending(output, 4, ["b"])
    seal = publish(output, prepare)
    assert seal.number == 3 and written == [4]
    assert sealed_images(output) == ["a", "b", "x"]
    assert (seal.closed("tiles").through, seal.closed("other").through) == (4, 3)


def test_the_same_slice_by_two_drivers(output, monkeypatch):
    meanwhile(monkeypatch, lambda: publish(output, appending(output, 3, ["a"])[0]))
    assert publish(output, appending(output, 3, ["a"])[0]) is None
    assert images(output) == ["a"]


def test_a_compaction_in_between(output, monkeypatch):
    publish(output, appending(output, 3, ["a"])[0])
    publish(output, appending(output, 4, ["b"])[0])
    meanwhile(monkeypatch, lambda: publish(output, merging(output)))
    prepare, written = appending(output, 7, ["c"])
    publish(output, prepare)
    assert written == [7, 7], "its own ledger's publication came first: decided anew"
    assert images(output) == sealed_images(output) == ["a", "b", "c"]


def test_a_zombie_completes_what_others_have_sealed(output):
    publish(output, appending(output, 3, ["a"])[0])
    publish(output, appending(output, 4, ["b"])[0])
    old = Publications(output).manifest(1)
    publish(output, merging(output))
    assert complete(output, old).number == 1
    assert images(output) == sealed_images(output) == ["a", "b"]


def optimize(output):
    DeltaTable(f"{output}/scores").optimize.compact()


def test_another_program_that_replaces_files_before_the_manifest(output):
    publish(output, appending(output, 3, ["a"])[0])
    publish(output, appending(output, 4, ["b"])[0])
    publish(output, appending(output, 5, ["c"])[0])
    prepared = []

    def prepare(seal, opened):
        draft = merging(output)(seal, opened)
        if not prepared:
            optimize(output)
        prepared.append(draft)
        return draft

    publish(output, prepare)
    assert len(prepared) == 2 and prepared[1] is None, "there is one file left: nothing to merge"
    assert images(output) == ["a", "b", "c"]
    publish(output, appending(output, 6, ["d"])[0])
    assert sealed_images(output) == images(output) == ["a", "b", "c", "d"]


def test_another_program_that_replaces_files_after_the_manifest_is_taken_back(output, monkeypatch):
    publish(output, appending(output, 3, ["a"])[0])
    publish(output, appending(output, 4, ["b"])[0])
    real, todo, said = publication.complete, [optimize], []
    monkeypatch.setattr(foreign.log, "warning", lambda *words: said.append(words[0] % words[1:]))

    def after_the_manifest(*args):
        if todo:
            todo.pop()(output)
        return real(*args)

    monkeypatch.setattr(publication, "complete", after_the_manifest)
    publish(output, merging(output))
    assert images(output) == sealed_images(output) == ["a", "b"]
    assert len(said) == 1 and "of another program replaced files" in said[0]
    publish(output, appending(output, 5, ["c"])[0])
    assert images(output) == sealed_images(output) == ["a", "b", "c"]
    for file in data_files(open_table(output, "scores")):
        assert (Path(output) / "scores" / file.path).exists()
    found = DeltaTable(f"{output}/scores").to_pyarrow_table(filters=[("image_id", "=", "a")])
    assert found.num_rows == 1, "statistics of files that came back are right"


def test_what_moves_from_errors_to_scores_is_never_in_neither(output, monkeypatch):
    """A foreign reader looks at the newest tables after every step."""
    first = write(output, "errors", ["a"])
    publish(output, lambda seal, opened: Draft(seal, "tiles", "slice", {"errors": change("errors", first)}, 3))

    def mended(seal, opened):
        if seal.closed("tiles").holds(4):
            return None
        changes = {"errors": change("errors", (), first), "scores": change("scores", write(output, "scores", ["a"]))}
        return Draft(seal, "tiles", "slice", changes, 4)

    real, seen = publication._changed, []

    def watched(*args):
        version = real(*args)
        failed = open_table(output, "errors").to_pyarrow_table().num_rows
        seen.append((failed, len(images(output))))
        return version

    monkeypatch.setattr(publication, "_changed", watched)
    publish(output, mended)
    assert (0, 0) not in seen and seen[-1] == (0, 1)


def test_a_seal_is_never_overwritten(output):
    seal = publish(output, appending(output, 3, ["a"])[0])
    assert not Publications(output).seals.put_new(1, Seal(1).text())
    assert Publications(output).last_seal() == seal


def test_the_row_of_runs_is_written_for_the_number_that_the_publication_gets(output, monkeypatch):
    meanwhile(monkeypatch, lambda: publish(output, appending(output, 3, ["x"], "other")[0]))
    numbers = []

    def prepare(seal, opened):
        def row(number):
            numbers.append(number)
            return change("runs")

        return Draft(seal, "tiles", "slice", {"scores": change("scores", write(output, "scores", ["a"]))}, 3, row=row)

    assert publish(output, prepare).number == numbers[-1] == 2 and numbers == [1, 2]


def test_a_command_loads_a_table_once(output, monkeypatch):
    publish(output, appending(output, 3, ["a"])[0])
    opened, handles = [], {}

    def watched(output, name, version=None):
        opened.append(name)
        return open_table(output, name, version)

    monkeypatch.setattr(publication, "open_table", watched)
    publish(output, appending(output, 4, ["b"])[0], handles)
    publish(output, appending(output, 3, ["x"], "other")[0])
    publish(output, appending(output, 5, ["c"])[0], handles)
    assert opened.count("scores") == 2, "once for each command"
    assert images(output) == sealed_images(output) == ["a", "b", "c", "x"]
    assert handles["scores"].version() == open_table(output, "scores").version()


@pytest.mark.parametrize("when", ["before the publication", "while files are written"])
def test_a_loaded_table_whose_credentials_have_expired_is_opened_anew(output, monkeypatch, when):
    handles, expired, (load, commit) = {}, [], (publication.load_newest, DeltaTable.create_write_transaction)
    publish(output, appending(output, 3, ["a"])[0], handles)

    def asked(table):
        if any(table is old for old in expired):
            raise Denied("The operation lacked valid credentials")

    def prepare(seal, opened):
        if when == "while files are written" and not expired:
            expired.extend(filter(None, opened.values()))
        return prepare_rows(seal, opened)

    monkeypatch.setattr(publication, "load_newest", lambda table: asked(table) or load(table))
    monkeypatch.setattr(DeltaTable, "create_write_transaction", lambda table, *a, **o: asked(table) or commit(table, *a, **o))
    if when == "before the publication":
        expired += filter(None, handles.values())
    prepare_rows, _ = appending(output, 4, ["b"])
    publish(output, prepare, handles)
    assert len(expired) == 2 and images(output) == sealed_images(output) == ["a", "b"]
    assert not any(handles[name] is table for name in ("scores", "maps") for table in expired)


def test_a_table_that_changes_after_it_was_loaded_is_loaded_again(output, monkeypatch):
    """A publisher commits on the version that he has loaded; here it is not the newest any more."""
    publish(output, appending(output, 3, ["a"])[0])
    real, todo, sleeps = publication.complete, [lambda: optimize_nothing(output)], []

    def after_the_manifest(*args):
        if todo:
            todo.pop()()
        return real(*args)

    monkeypatch.setattr(publication, "complete", after_the_manifest)
    set_time(monkeypatch, publication, sleep=sleeps.append)
    seal = publish(output, appending(output, 4, ["b"])[0])
    assert len(sleeps) == 1 and images(output) == sealed_images(output) == ["a", "b"]
    assert seal.versions["scores"] == DeltaTable(f"{output}/scores").version() == 3


def optimize_nothing(output):
    """Another program's commit that changes no file."""
    DeltaTable(f"{output}/scores").alter.set_table_properties({"other.program": "1"}, raise_if_not_exists=False)


def test_a_table_is_loaded_again_only_after_its_commit(output, monkeypatch):
    """To load it costs the more the more files it has and the longer its log is."""
    publish(output, appending(output, 3, ["a"])[0])
    loads, real = [], publication.load_newest
    monkeypatch.setattr(publication, "load_newest", lambda table: loads.append(table) or real(table))
    seal = publish(output, appending(output, 4, ["b"])[0])
    assert len(loads) == 2, "maps and scores"
    assert seal.versions == {name: open_table(output, name).version() for name in ("scores", "maps")}


@pytest.mark.parametrize("when", ["before the publication", "while files are written"])
def test_a_table_that_was_loaded_before_its_log_was_shortened_is_opened_anew(output, when):
    handles, others = {}, list(range(4, 17))
    publish(output, appending(output, 3, ["a"])[0], handles)

    def others_publish_and_clean():
        for number in others:
            publish(output, appending(output, number, [f"b{number}"], "other")[0])
        for log in Path(output).glob("*/_delta_log"):
            checkpoint = max(int(path.name[:20]) for path in log.glob("*.checkpoint.parquet"))
            for commit in log.glob("*.json"):
                if commit.name[:20].isdigit() and int(commit.name[:20]) < checkpoint:
                    commit.unlink()

    prepare_rows, _ = appending(output, 20, ["z"])

    def prepare(seal, opened):
        draft = prepare_rows(seal, opened)
        if when == "while files are written" and others:
            others_publish_and_clean()
            others.clear()
        return draft

    if when == "before the publication":
        others_publish_and_clean()
    publish(output, prepare, handles)
    assert images(output) == sealed_images(output) == sorted(["a", "z", *(f"b{number}" for number in range(4, 17))])
