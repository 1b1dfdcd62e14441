"""Compares the state of a ledger with what it must be, and the files of an output with what it names."""

import functools
import io
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from path_keys import FIELDS, keys_of
from places import Look
from small_archive import SmallArchive

from pipeline.state import inventory, slices
from pipeline.state.entries import Judging, Promotion, Slice, is_day, read_entry
from pipeline.state.inventory import Base
from pipeline.state.known import Known
from pipeline.state.ledger import Ledger
from pipeline.state.plan import read_state
from pipeline.state.tally import read_failed
from pipeline.tables.delta import TABLES
from schemas.tally import MAY_CHANGE

Objects = dict[str, dict[str, Any]]
"""What is known of each object: a row of schemas/inventory.py with its slice."""


def entries(look: Look, ledger: Ledger) -> dict[int, Any]:
    numbers = sorted(int(key[-11:-5]) for key in look.below(f"{ledger.prefix}/entries/"))
    assert numbers == list(range(1, len(numbers) + 1))
    return {number: _entry(ledger, number) for number in numbers}


def sealed_slices(look: Look, ledger: Ledger) -> dict[int, Slice]:
    return {number: entry for number, entry in entries(look, ledger).items() if isinstance(entry, Slice)}


_entry = functools.lru_cache(maxsize=4096)(read_entry)


@functools.lru_cache(maxsize=4096)
def _objects(ledger: Ledger, number: int) -> list[dict[str, Any]]:
    return [row for table in slices.objects(ledger, number) for row in table.to_pylist()]


@functools.lru_cache(maxsize=4096)
def _days(ledger: Ledger, number: int) -> set[tuple[str, int]]:
    return {(unit.date, unit.scoring) for unit in slices.outlines(ledger, number) if is_day(unit.date)}


def outcomes(look: Look, ledger: Ledger, number: int) -> dict[str, str]:
    """The errors of objects by the tally of a slice; empty before there is one."""
    return _outcomes(ledger, number) if ledger.tally_key(number) in look.sizes else {}


@functools.lru_cache(maxsize=4096)
def _outcomes(ledger: Ledger, number: int) -> dict[str, str]:
    return {row["object"]: row["outcome"] for row in read_failed(ledger, number).to_pylist()}


def check_plans(look: Look, ledger: Ledger, retried: bool) -> Objects:
    """No object is planned again without a reason; a day has one digest. Returns what is known of each object.

    retried: a command was to plan objects with errors again.
    """
    return look.once(f"plans {ledger.model}", look.of_ledger(ledger), lambda: _plans(look, ledger, retried))


def _plans(look: Look, ledger: Ledger, retried: bool) -> Objects:
    last: Objects = {}
    digests: dict[str, str] = {}
    for number, entry in sealed_slices(look, ledger).items():
        objects = _objects(ledger, number)
        names = [row["object"] for row in objects]
        assert names == sorted(set(names)) and len(names) == entry.objects
        for row in objects:
            before = last.get(row["object"])
            assert row["before"] == (before["slice"] if before else None), f"{row} of slice {number}, before {before}"
            if before:
                assert row["date"] == before["date"], f"{row} had the date {before['date']}"
                outcome = outcomes(look, ledger, before["slice"]).get(row["object"])
                again = outcome in MAY_CHANGE or (retried and outcome is not None)
                assert again or before["etag"] != row["etag"], f"{row} is planned again, by slice {number}"
            last[row["object"]] = row | {"slice": number}
        for day, scoring in _days(ledger, number):
            digest = entry.scorings[scoring].model_digest
            assert digests.setdefault(day, digest) == digest, f"{day} has two digests"
    return last


def check_archive_known(look: Look, ledger: Ledger, archive: SmallArchive, base: str) -> None:
    """After a command that nothing disturbed: the ledger knows the archive as it is."""
    known = check_plans(look, ledger, True)
    for key in archive.images:
        row = known.get(base + key)
        stat = (archive.root / key).stat()
        assert row is not None and row["etag"] == f"{stat.st_mtime_ns:x}-{stat.st_size:x}", f"{key} is not planned: {row}"
        if outcomes(look, ledger, row["slice"]).get(row["object"]) in MAY_CHANGE:
            assert row["stamp"] == str(archive.stamps[key]), f"{key} was touched and is not planned: {row}"


def check_fold(look: Look, ledger: Ledger) -> None:
    """The inventory equals its fold made anew."""
    look.once(f"fold {ledger.model}", look.of_ledger(ledger), lambda: _fold(look, ledger))


def _fold(look: Look, ledger: Ledger) -> None:
    known, (base, head) = check_plans(look, ledger, True), read_state(ledger)
    names = pa.array(sorted(known), pa.string())
    kept = Known(ledger, base, head.slices, "").of(names)
    anew = Known(ledger, Base(), list(sealed_slices(look, ledger)), "").of(names)
    assert kept.equals(anew), f"inventory {kept.to_pylist()}, made anew {anew.to_pylist()}"
    assert pc.all(pc.is_valid(anew["slice"])).as_py() in (True, None)


def check_key_columns(look: Look, ledger: Ledger) -> None:
    """All rows of `scores` and `errors` have the key columns of the ledger's pattern."""
    pattern = read_state(ledger)[1].key_pattern
    for name in ("scores", "errors"):
        for file in look.files(name):
            if file.partition["model"] == ledger.model:
                for row in pq.ParquetFile(io.BytesIO(look.place.read(f"{name}/{file.path}"))).read().to_pylist():
                    keys = keys_of(pattern, row["uri"], row["member"])
                    assert {field: row.get(field) for field in FIELDS} == {field: keys.get(field) for field in FIELDS}, row


def check_only_referenced(look: Look, models: list[str]) -> None:
    """After a cleaning long after the last change only files of the newest versions are left, and state that entries name."""
    for name in TABLES:
        there = {key for key in look.below(f"{name}/") if not key.startswith("_delta_log/")}
        active = {unquote(file.path) for file in look.files(name)}
        assert {unquote(path) for path in there} == active, f"{name}: {sorted(there - active)} are left over"
    for model in models:
        _check_state(look, Ledger(look.place.uri, model))


def _check_state(look: Look, ledger: Ledger) -> None:
    all_entries, sealed = entries(look, ledger), sealed_slices(look, ledger)
    bases = [inventory.base_numbered(ledger, number) for number in inventory.bases(ledger).after(0)[-2:]]
    named = {
        "parts": {part.name for entry in sealed.values() for part in entry.parts},
        "commits": set[str](),
        "tallies": {f"{number:06d}.parquet" for number in sealed},
        "inventory/files": {file.name for base in bases for tier in base.tiers for file in tier.files},
    }
    for folder, names in named.items():
        there = {key.split("/")[0] for key in look.below(f"{ledger.prefix}/{folder}/")}
        assert there == names, f"{folder}: {sorted(there - names)} are left over, {sorted(names - there)} are missing"
    promoted = {entry.digest for entry in all_entries.values() if isinstance(entry, Promotion)}
    artifacts = {key.split("/")[0] for key in look.below(f"{ledger.prefix}/artifacts/")}
    assert artifacts >= promoted, f"models are missing: {promoted - artifacts}"
    ruled = {entry.rule.calibration for entry in all_entries.values() if isinstance(entry, Judging)} - {None}
    calibrations = {key.split("/")[0] for key in look.below(f"{ledger.prefix}/calibrations/")}
    assert calibrations >= ruled, f"calibrations are missing: {ruled - calibrations}"
