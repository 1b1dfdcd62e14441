"""Says what the tables must hold after each publication: dictionaries in memory, the order of manifests, recorded results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from model_verdicts import OfModel, decided_by, noted, rejudged, ruled
from stand_in import Row

from pipeline.state import slices
from pipeline.state.entries import Rekey, read_entry, read_slice
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Manifest, Publications
from schemas.tally import MAY_CHANGE


@dataclass(frozen=True)
class State:
    """After a publication. rows: of each object, by (model, object).  by: the highest slice that has published it.
    models: key pattern, rules and verdicts of each model.
    """

    rows: Mapping[tuple[str, str], tuple[Row, ...]] = field(default_factory=dict)
    by: Mapping[tuple[str, str], int] = field(default_factory=dict)
    models: Mapping[str, OfModel] = field(default_factory=dict)

    _made: dict[str, list[tuple]] = field(default_factory=dict)

    def expected(self, table: str, rows: Callable[["State"], list[tuple]]) -> list[tuple]:
        """The rows that a table must have, made once."""
        if table not in self._made:
            self._made[table] = rows(self)
        return self._made[table]


class Oracle:
    """committed: rows of every commit object, by key."""

    def __init__(self, output_uri: str, committed: Mapping[str, list[Row]]) -> None:
        self._output_uri, self._committed = output_uri, committed
        self.publications = Publications(output_uri)
        self._states = [State()]
        self._manifests: dict[int, Manifest] = {}
        self._closed: set[tuple[str, int]] = set()

    def after(self, publication: int) -> State:
        """The tables after that publication; its manifest must exist."""
        while len(self._states) <= publication:
            self._states.append(self._next(len(self._states)))
        return self._states[publication]

    def manifest(self, number: int) -> Manifest:
        """It never changes."""
        if number not in self._manifests:
            self._manifests[number] = self.publications.manifest(number)
        return self._manifests[number]

    def _next(self, number: int) -> State:
        before = self._states[-1]
        manifest = self.manifest(number)
        assert manifest.number == number
        if manifest.slice is None:
            return self._without_slice(before, manifest)
        assert (manifest.model, manifest.slice) not in self._closed, f"slice {manifest.slice} is published twice"
        self._closed.add((manifest.model, manifest.slice))
        ledger, rows, by = Ledger(self._output_uri, manifest.model), dict(before.rows), dict(before.by)
        found = results(ledger, manifest.slice, self._committed)
        for name in objects_of(ledger, manifest.slice):
            key, mine = (manifest.model, name), found.get(name, ())
            if by.get(key, 0) > manifest.slice:
                continue
            by[key] = manifest.slice
            if rows.get(key) and any(row.error in MAY_CHANGE for row in mine):
                continue
            rows[key] = mine
        of = before.models.get(manifest.model, OfModel())
        assert not (of.stale and of.laws), f"slice {manifest.slice} is published though rules are not in force after a rekey"
        pattern = read_slice(ledger, manifest.slice).scorings[0].source.key_pattern
        assert not of.newest or of.pattern == pattern, f"slice {manifest.slice} has the key pattern {pattern}"
        of = rejudged(replace(of, pattern=pattern), manifest.model, _of_model(rows, manifest.model))
        return State(rows, by, {**before.models, manifest.model: of})

    def _without_slice(self, before: State, manifest: Manifest) -> State:
        model, of = manifest.model, before.models.get(manifest.model, OfModel())
        ledger = Ledger(self._output_uri, model)
        if manifest.kind == "rekey":
            entry = read_entry(ledger, manifest.rekey)
            assert isinstance(entry, Rekey)
            of = replace(of, pattern=entry.key_pattern, stale=True)
        elif manifest.kind == "verdicts":
            laws = decided_by(ledger, manifest.judged)
            of = noted(ruled(of, laws), ledger, manifest.judged)
            of = rejudged(of, model, _of_model(before.rows, model))
        else:
            return before
        return State(before.rows, before.by, {**before.models, model: of})


def _of_model(rows: Mapping[tuple[str, str], tuple[Row, ...]], model: str) -> list[Row]:
    return [row for (of, _), mine in rows.items() if of == model for row in mine]


def objects_of(ledger: Ledger, slice_number: int) -> list[str]:
    """The objects that a slice holds."""
    return [name for table in slices.objects(ledger, slice_number, ["object"]) for name in table["object"].to_pylist()]


def results(ledger: Ledger, slice_number: int, committed: Mapping[str, list[Row]]) -> dict[str, tuple[Row, ...]]:
    """The rows of every object of a slice, from all its commits."""
    found: dict[str, list[Row]] = {}
    for unit in range(read_slice(ledger, slice_number).units):
        part = 0
        assert ledger.commit_key(slice_number, unit, 0) in committed, f"unit {unit} of slice {slice_number} has no commit"
        while (key := ledger.commit_key(slice_number, unit, part)) in committed:
            for row in committed[key]:
                found.setdefault(row.object, []).append(row)
            part += 1
    return {name: tuple(sorted(rows, key=lambda row: (row.image_id, row.unit_id))) for name, rows in found.items()}
