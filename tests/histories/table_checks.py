"""Compares the tables of an output, as a look finds them, with what the oracle says."""

from datetime import timedelta

from judged_rows import NOT_CALIBRATED
from ledger_checks import sealed_slices
from moved_clock import MovedClock
from oracle import Oracle, State
from places import Look
from small_archive import SmallArchive
from stand_in import Row, score_of

from pipeline.state.entries import read_head
from pipeline.state.ledger import Ledger
from pipeline.state.publications import Publications

Rows = dict[str, list[tuple]]
"""The rows of each table, sorted."""


def expected_scores(state: State) -> list[tuple]:
    return state.expected("scores", _expected_scores)


def _expected_scores(state: State) -> list[tuple]:
    return sorted(
        (
            (*_score(model, row), *state.models[model].verdicts.get(row.image_id, NOT_CALIBRATED))
            for (model, _), rows in state.rows.items()
            for row in rows
            if row.error is None
        ),
        key=repr,
    )


def _score(model: str, row: Row) -> tuple:
    regions = int(row.score > 0.5)
    return (row.image_id, row.uri, row.member, row.date, model, row.digest, row.unit_id, row.run_id, row.score, regions)


def expected_lots(state: State) -> list[tuple]:
    """All revisions of all lots."""
    return state.expected("lots", lambda state: sorted((row for of in state.models.values() for row in of.lots), key=repr))


def expected_decisions(state: State) -> list[tuple]:
    def rows(state: State) -> list[tuple]:
        return sorted((row for of in state.models.values() for row in of.decisions), key=repr)

    return state.expected("decisions", rows)


def expected_errors(state: State) -> list[tuple]:
    return state.expected("errors", _expected_errors)


def _expected_errors(state: State) -> list[tuple]:
    return sorted(
        (
            (row.image_id, row.uri, row.member, row.date, model, row.run_id, row.error)
            for (model, _), rows in state.rows.items()
            for row in rows
            if row.error is not None
        ),
        key=repr,
    )


def _images(state: State) -> set[str]:
    return {row[0] for row in expected_scores(state)} | {row[0] for row in expected_errors(state)}


def check_equal(rows: Rows, state: State, what: str) -> None:
    """Scores with their verdicts, errors, lots and decisions are those of the state, and every score has its map and regions,
    once."""
    _same(rows["scores"], expected_scores(state), f"scores {what}")
    _same(rows["errors"], expected_errors(state), f"errors {what}")
    _same(rows["lots"], expected_lots(state), f"lots {what}")
    _same(rows["decisions"], expected_decisions(state), f"decisions {what}")
    _check_maps(rows, rows["scores"], what)


def _check_maps(rows: Rows, scores: list[tuple], what: str) -> None:
    """The documented join: by model, date, unit and image."""
    wanted = {(image, unit, date, model): regions for image, _, _, date, model, _, unit, _, _, regions, *_ in scores}
    maps = [row for row in rows["maps"] if row in wanted]
    _same(maps, sorted(wanted, key=repr), f"maps {what}")
    regions = [row for row in rows["regions"] if row[:4] in wanted]
    _same(regions, sorted(((*row, 0) for row, count in wanted.items() if count), key=repr), f"regions {what}")


def _same(found: list, wanted: list, what: str) -> None:
    assert found == wanted, f"{what}: too many {_without(found, wanted)}, missing {_without(wanted, found)}"


def _without(some: list, others: list) -> list:
    left = list(some)
    for each in others:
        if each in left:
            left.remove(each)
    return left[:4]


def check_sealed(look: Look, oracle: Oracle) -> None:
    """What our readers see, at any moment: the state of the last seal."""
    seal = Publications(look.place.uri).last_seal()
    check_equal(look.at(seal.versions), oracle.after(seal.number), f"at seal {seal.number}")


def check_foreign(look: Look, oracle: Oracle) -> None:
    """What readers of the newest versions see by the documented joins, at any moment: before or after a publication."""
    publications, rows = Publications(look.place.uri), look.newest()
    states = [oracle.after(number) for number in range(publications.seals.newest(), publications.manifests.newest() + 1)]
    scores = rows["scores"]
    for name, expected in (("scores", expected_scores), ("lots", expected_lots), ("decisions", expected_decisions)):
        if rows[name] != expected(states[0]):
            _same(rows[name], expected(states[-1]), f"{name}, or they are a mixture:")
    _check_maps(rows, scores, "of a foreign reader")
    errors = set(rows["errors"])
    assert errors <= {row for state in states for row in expected_errors(state)}, "errors that never were"
    always = set.intersection(*(_images(state) for state in states))
    assert always <= {row[0] for row in scores} | {row[0] for row in errors}, "images are in neither scores nor errors"


class Reader:
    """A foreign reader who has opened `scores` and joins it with maps within a day."""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        self._since, self._scores = clock.now(), list[tuple]()

    def check(self, look: Look) -> None:
        rows = look.newest()
        if self._clock.now() - self._since > timedelta(hours=23):
            self._since, self._scores = self._clock.now(), rows["scores"]
        _check_maps(rows, self._scores, "of a reader who is slow")


def settled_already(look: Look) -> bool:
    """Whether no publication is under way; a command that others disturbed may end before it sees what they have left."""
    publications = Publications(look.place.uri)
    return publications.manifests.newest() == publications.seals.newest()


def check_complete(look: Look, oracle: Oracle) -> None:
    """After a completed command: no publication is under way, and the newest versions are what the oracle says."""
    publications, rows = Publications(look.place.uri), look.newest()
    written, sealed = publications.manifests.newest(), publications.seals.newest()
    assert written == sealed, f"publication {written} is not sealed"
    check_equal(rows, oracle.after(sealed), f"after publication {sealed}")
    seal = publications.last_seal()
    runs = sorted((model, number) for _, number, model in rows["runs"])
    assert len(runs) == len(set(runs)), f"runs twice: {runs}"
    closed = [
        (model, number)
        for model in seal.ledgers
        for number in sealed_slices(look, Ledger(look.place.uri, model))
        if seal.closed(model).holds(number)
    ]
    assert runs == sorted(closed), f"runs {runs}, closed slices {closed}"


def check_in_force(look: Look, models: set[str]) -> None:
    """The rows of these models are judged by the newest rules of their ledgers, as the newest seal says it."""
    seal = Publications(look.place.uri).last_seal()
    for model in models:
        decided, judged = read_head(Ledger(look.place.uri, model)).decided, seal.closed(model).judged
        assert judged >= decided, f"rules of {model} up to entry {judged} are in force, and {decided} is decided"


def check_current(look: Look, model: str, archive: SmallArchive, places: list[str]) -> None:
    """Every image of the archive has the row of its present content, and its object has no other rows.

    places: URIs where the archive was at some time.
    """
    expected: dict[tuple[str, str | None], float | None] = {}
    for key, images in archive.images.items():
        for name, image in images.items():
            expected[key, name or None] = score_of(image)
    found: dict[tuple[str, str | None], float | None] = {}
    tables = look.newest()
    rows = [(uri, member, score) for _, uri, member, _, of, _, _, _, score, *_ in tables["scores"] if of == model]
    rows += [(uri, member, None) for _, uri, member, _, of, _, _ in tables["errors"] if of == model]
    for uri, member, score in rows:
        key = next((uri.removeprefix(f"{place}/") for place in places if uri.startswith(f"{place}/")), "")
        if key in archive.images:
            assert (key, member) not in found, f"{key} {member} has two rows"
            found[key, member] = score
    _same(sorted(found.items(), key=repr), sorted(expected.items(), key=repr), f"present images of {model}")
