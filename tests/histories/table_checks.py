"""Compares tables, files and state of an output with what they must be."""

import functools
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from moved_clock import MovedClock
from oracle import Oracle, State
from small_archive import SmallArchive
from stand_in import Row, score_of

from pipeline.state import slices
from pipeline.state.entries import Slice, is_day, read_entry
from pipeline.state.inventory import Base
from pipeline.state.known import Known
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.publications import Publications
from pipeline.state.tally import read_failed
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.files import data_files
from pipeline.tables.query import open_sealed
from schemas.tally import MAY_CHANGE

COLUMNS = {
    "scores": ["image_id", "uri", "member", "date", "model", "model_digest", "unit_id", "run_id", "score", "regions"],
    "errors": ["image_id", "uri", "member", "date", "model", "run_id", "error"],
    "maps": ["image_id", "unit_id", "date", "model"],
    "regions": ["image_id", "unit_id", "date", "model", "region"],
    "runs": ["run_id", "slice", "model"],
}

Opened = dict[str, DeltaTable | None]


def newest(output: str) -> Opened:
    return {name: open_table(output, name) for name in TABLES}


def rows_of(output: str, name: str, table: DeltaTable | None) -> list[tuple]:
    """The rows of all active files; fails when one is missing."""
    found: list[tuple] = []
    for file in data_files(table):
        path = Path(output.removeprefix("file://"), name, file.path)
        assert path.exists(), f"{name} needs {file.path}, which is not there"
        assert path.stat().st_size == file.size
        found += _rows_in(path, name, tuple(file.partition.items()))
    return sorted(found, key=repr)


@functools.lru_cache(maxsize=4096)
def _rows_in(path: Path, name: str, partition: tuple[tuple[str, str], ...]) -> list[tuple]:
    """A file never changes."""
    rows = pq.ParquetFile(path).read([name for name in COLUMNS[name] if name not in dict(partition)]).to_pylist()
    return [tuple((row | dict(partition))[column] for column in COLUMNS[name]) for row in rows]


def expected_scores(state: State) -> list[tuple]:
    return sorted(
        (_score(model, row) for (model, _), rows in state.rows.items() for row in rows if row.error is None), key=repr
    )


def _score(model: str, row: Row) -> tuple:
    regions = int(row.score > 0.5)
    return (row.image_id, row.uri, row.member, row.date, model, row.digest, row.unit_id, row.run_id, row.score, regions)


def expected_errors(state: State) -> list[tuple]:
    return sorted(
        (
            (row.image_id, row.uri, row.member, row.date, model, row.run_id, row.error)
            for (model, _), rows in state.rows.items()
            for row in rows
            if row.error is not None
        ),
        key=repr,
    )


def _images(state: State) -> list[tuple]:
    return expected_scores(state) + expected_errors(state)


def check_equal(output: str, opened: Opened, state: State, what: str) -> None:
    """Scores and errors are those of the state, and every score has its map and regions, once."""
    scores = rows_of(output, "scores", opened["scores"])
    _same(scores, expected_scores(state), f"scores {what}")
    _same(rows_of(output, "errors", opened["errors"]), expected_errors(state), f"errors {what}")
    _check_maps(output, opened, scores, what)


def _check_maps(output: str, opened: Opened, scores: list[tuple], what: str) -> None:
    """The documented join: by model, date, unit and image."""
    wanted = {(image, unit, date, model): regions for image, _, _, date, model, _, unit, _, _, regions in scores}
    maps = [row for row in rows_of(output, "maps", opened["maps"]) if row in wanted]
    _same(maps, sorted(wanted, key=repr), f"maps {what}")
    regions = [row for row in rows_of(output, "regions", opened["regions"]) if row[:4] in wanted]
    _same(regions, sorted(((*row, 0) for row, count in wanted.items() if count), key=repr), f"regions {what}")


def _same(found: list, wanted: list, what: str) -> None:
    assert found == wanted, f"{what}: too many {_without(found, wanted)}, missing {_without(wanted, found)}"


def _without(some: list, others: list) -> list:
    left = list(some)
    for each in others:
        if each in left:
            left.remove(each)
    return left[:4]


def check_sealed(output: str, oracle: Oracle) -> None:
    """What our readers see, at any moment: the state of the last seal."""
    seal = Publications(output).last_seal()
    check_equal(output, open_sealed(output), oracle.after(seal.number), f"at seal {seal.number}")


def check_foreign(output: str, oracle: Oracle, opened: Opened) -> None:
    """What readers of the newest versions see by the documented joins, at any moment: before or after a publication."""
    publications = Publications(output)
    states = [oracle.after(number) for number in range(publications.seals.newest(), publications.manifests.newest() + 1)]
    scores = rows_of(output, "scores", opened["scores"])
    assert scores in [expected_scores(state) for state in states], "scores are a mixture"
    _check_maps(output, opened, scores, "of a foreign reader")
    errors = {row for row in rows_of(output, "errors", opened["errors"])}
    assert errors <= {row for state in states for row in expected_errors(state)}, "errors that never were"
    always = set.intersection(*({row[0] for row in _images(state)} for state in states))
    assert always <= {row[0] for row in scores} | {row[0] for row in errors}, "images are in neither scores nor errors"


class Reader:
    """A foreign reader who has opened `scores` and joins it with maps within a day."""

    def __init__(self, output: str, clock: MovedClock) -> None:
        self._output, self._clock = output, clock
        self._since, self._scores = clock.now(), list[tuple]()

    def check(self, opened: Opened) -> None:
        if self._clock.now() - self._since > timedelta(hours=23):
            self._since, self._scores = self._clock.now(), rows_of(self._output, "scores", opened["scores"])
        _check_maps(self._output, opened, self._scores, "of a reader who is slow")


def check_complete(output: str, oracle: Oracle, opened: Opened) -> None:
    """After a completed command: no publication is under way, and the newest versions are what the oracle says."""
    publications = Publications(output)
    written, sealed = publications.manifests.newest(), publications.seals.newest()
    assert written == sealed, f"publication {written} is not sealed"
    check_equal(output, opened, oracle.after(sealed), f"after publication {sealed}")
    seal = publications.last_seal()
    runs = sorted((model, number) for _, number, model in rows_of(output, "runs", opened["runs"]))
    assert len(runs) == len(set(runs)), f"runs twice: {runs}"
    closed = [
        (model, number)
        for model in seal.ledgers
        for number in sealed_slices(Ledger(output, model))
        if seal.closed(model).holds(number)
    ]
    assert runs == sorted(closed), f"runs {runs}, closed slices {closed}"


def sealed_slices(ledger: Ledger) -> dict[int, Slice]:
    entries = {number: _entry(ledger, number) for number in ledger.entries.after(0)}
    assert list(entries) == list(range(1, len(entries) + 1))
    return {number: entry for number, entry in entries.items() if isinstance(entry, Slice)}


_entry = functools.lru_cache(maxsize=4096)(read_entry)


@functools.lru_cache(maxsize=4096)
def _objects(ledger: Ledger, number: int) -> list[dict[str, Any]]:
    return [row for table in slices.objects(ledger, number) for row in table.to_pylist()]


@functools.lru_cache(maxsize=4096)
def _days(ledger: Ledger, number: int) -> set[tuple[str, int]]:
    return {(unit.date, unit.scoring) for unit in slices.outlines(ledger, number) if is_day(unit.date)}


def outcomes(ledger: Ledger, number: int) -> dict[str, str]:
    """The errors of objects by the tally of a slice; empty before there is one."""
    return _outcomes(ledger, number) if (Path(ledger.store.root) / ledger.tally_key(number)).exists() else {}


@functools.lru_cache(maxsize=4096)
def _outcomes(ledger: Ledger, number: int) -> dict[str, str]:
    return {row["object"]: row["outcome"] for row in read_failed(ledger, number).to_pylist()}


def check_plans(ledger: Ledger, retried: bool = True) -> dict[str, dict[str, Any]]:
    """No object is planned again without a reason; a day has one digest. Returns what is known of each object.

    retried: a command was to plan objects with errors again.
    """
    last: dict[str, dict[str, Any]] = {}
    digests: dict[str, str] = {}
    for number, entry in sealed_slices(ledger).items():
        objects = _objects(ledger, number)
        names = [row["object"] for row in objects]
        assert names == sorted(set(names)) and len(names) == entry.objects
        for row in objects:
            before = last.get(row["object"])
            assert row["before"] == (before["slice"] if before else None), f"{row} of slice {number}, before {before}"
            if before:
                assert row["date"] == before["date"], f"{row} had the date {before['date']}"
                outcome = outcomes(ledger, before["slice"]).get(row["object"])
                again = outcome in MAY_CHANGE or (retried and outcome is not None)
                assert again or before["etag"] != row["etag"], f"{row} is planned again, by slice {number}"
            last[row["object"]] = row | {"slice": number}
        for day, scoring in _days(ledger, number):
            digest = entry.scorings[scoring].model_digest
            assert digests.setdefault(day, digest) == digest, f"{day} has two digests"
    return last


def check_archive_known(ledger: Ledger, archive: SmallArchive, base: str) -> None:
    """After a command that nothing disturbed: the ledger knows the archive as it is."""
    known = check_plans(ledger)
    for key in archive.images:
        row = known.get(base + key)
        stat = (archive.root / key).stat()
        assert row is not None and row["etag"] == f"{stat.st_mtime_ns:x}-{stat.st_size:x}", f"{key} is not planned: {row}"
        if outcomes(ledger, row["slice"]).get(row["object"]) in MAY_CHANGE:
            assert row["stamp"] == str(archive.stamps[key]), f"{key} was touched and is not planned: {row}"


def check_fold(ledger: Ledger) -> None:
    """The inventory equals its fold made anew."""
    known, (base, head) = check_plans(ledger), read_state(ledger)
    names = pa.array(sorted(known), pa.string())
    all_slices = list(sealed_slices(ledger))
    kept = Known(ledger, base, head.slices, "").of(names)
    anew = Known(ledger, Base(), all_slices, "").of(names)
    assert kept.equals(anew), f"inventory {kept.to_pylist()}, made anew {anew.to_pylist()}"
    assert pc.all(pc.is_valid(anew["slice"])).as_py() in (True, None)


def check_key_columns(ledger: Ledger) -> None:
    """All rows of `scores` have the key columns of the ledger's pattern: the folder of their object."""
    pattern, table = read_state(ledger)[1].key_pattern, open_table(ledger.output_uri, "scores")
    for file in data_files(table):
        if file.partition["model"] == ledger.model:
            for row in pq.ParquetFile(Path(ledger.store.root, "scores", file.path)).read().to_pylist():
                folder = next(part for part in row["uri"].split("/") if part.startswith("lot-"))
                found = {name for name in ("lot", "cell") if row.get(name) == folder}
                assert found == {name for name in ("lot", "cell") if f"{{{name}}}" in (pattern or "")}, f"{row} by {pattern}"


def check_only_referenced(output: str) -> None:
    """After a cleaning long after the last change only files of the newest versions are left."""
    for name, table in newest(output).items():
        folder = Path(output.removeprefix("file://"), name)
        there = {str(path.relative_to(folder)) for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts}
        active = {unquote(file.path) for file in data_files(table)}
        assert {unquote(path) for path in there} == active, f"{name}: {sorted(there - active)} are left over"


def check_current(output: str, model: str, archive: SmallArchive, places: list[str]) -> None:
    """Every image of the archive has the row of its present content, and its object has no other rows.

    places: URIs where the archive was at some time.
    """
    expected: dict[tuple[str, str | None], float | None] = {}
    for key, images in archive.images.items():
        for number, image in enumerate(images):
            member = None if key.endswith(".png") else f"{number}.png" if key.endswith(".tar") else str(number)
            expected[key, member] = score_of(image)
    found: dict[tuple[str, str | None], float | None] = {}
    scores, errors = (rows_of(output, name, open_table(output, name)) for name in ("scores", "errors"))
    rows = [(uri, member, score) for _, uri, member, _, of, _, _, _, score, _ in scores if of == model]
    rows += [(uri, member, None) for _, uri, member, _, of, _, _ in errors if of == model]
    for uri, member, score in rows:
        key = next((uri.removeprefix(f"{place}/") for place in places if uri.startswith(f"{place}/")), "")
        if key in archive.images:
            assert (key, member) not in found, f"{key} {member} has two rows"
            found[key, member] = score
    _same(sorted(found.items(), key=repr), sorted(expected.items(), key=repr), f"present images of {model}")
