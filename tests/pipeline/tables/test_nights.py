"""Nights of a calibrated model on the drift chart: reference, watch, suspension and its end, and what they do to verdicts."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Barrier
from types import SimpleNamespace

import judged_ledger
import numpy as np
import pytest
from fake_run import DIGEST, MODEL
from judged_ledger import BY_IMAGE, BY_PIECE, Keys, calibration, files_of, image, lots, publish, put_rule, rows, verdicts
from stopped import Stopped, stop_publication, stops

from pipeline.state.entries import read_head
from pipeline.state.ledger import Ledger
from pipeline.storage.local import LocalStore
from pipeline.tables import night_images, nights, seen_images
from pipeline.tables.compaction import compact
from pipeline.tables.nights import chart_nights
from pipeline.tables.rejudge import rejudge
from pipeline.verdicts import drift_chart

IMAGES = 40
FIRST = date(2026, 3, 1)


def day(number):
    """The production day of a night, which may lie in another month than others."""
    return (FIRST + timedelta(days=number)).isoformat()


def night(number, light=0.0, blur=0.0, mix=0.0, shift=0.0, images=IMAGES, line="7", **columns):
    """The images of a night: a normal lot effect, and changes. light: log of brightness.  mix: share of other products.
    shift: of all scores."""
    rng = np.random.default_rng([7, number])
    effect = 0.01 * rng.normal(size=3)
    found = []
    for at in range(images):
        mean = np.exp(np.log(100) + light + effect[0] + 0.02 * rng.normal())
        spread = mean * np.exp(np.log(0.2) + effect[1] + 0.02 * rng.normal())
        edges = spread * np.exp(np.log(0.5) - blur + effect[2] + 0.02 * rng.normal())
        other = at < mix * images
        embedding = (0.2 * rng.normal(size=32) + 0.2 * other).astype(np.float16)
        look = {"brightness": mean, "contrast": spread, "sharpness": edges**2, "embedding": embedding.tobytes(), **columns}
        score = float(np.float32(0.3 * rng.normal() + 1.2 * other + shift))
        found.append(image(f"L{number}", f"{number}-{at:03}", score, line=line, **look))
    return day(number), found


def ledger(output):
    return Ledger(str(output), MODEL)


def chart(output, **options):
    return chart_nights(ledger(output), **options)


def scored(output, *content):
    """A command that scores these nights in one slice."""
    publish(output, list(content))
    return chart(output)


def charted(output, *names):
    """The named columns of every night, by day."""
    found = {row["date"]: row for row in rows(output, "drift")}
    assert len(found) == len(rows(output, "drift")), "one row a night"
    return {of: tuple(found[of][name] for name in names) if len(names) > 1 else found[of][names[0]] for of in sorted(found)}


def start(place, keys=BY_IMAGE, **options):
    """A calibrated ledger without any night."""
    publish(place, [("none", [image("L", "0", 0.0)])])
    put_rule(place, calibration(keys, **options))
    return place


@pytest.fixture(scope="module")
def referred(tmp_path_factory):
    """Twenty reference nights, in one slice."""
    place = start(tmp_path_factory.mktemp("referred") / "out")
    scored(place, *(night(number) for number in range(20)))
    return place


@pytest.fixture
def output(referred, tmp_path):
    return shutil.copytree(referred, tmp_path / "out")


def test_the_reference_builds_up_over_nights_and_the_next_night_is_charted(tmp_path):
    place = start(tmp_path / "out")
    scored(place, *(night(number) for number in range(18)))
    assert len(scored(place, night(18))) == 1
    assert set(charted(place, "state").values()) == {"reference"} and not list((tmp_path / "out").rglob("*/drift/*/*/*.json"))
    scored(place, night(19))
    (kept,) = (tmp_path / "out").rglob("*/drift/*/*/*.json")
    assert json.loads(kept.read_bytes())["nights"] == [day(number) for number in range(20)]
    (row,) = scored(place, night(20))
    assert (row.night.state, row.night.images, row.group) == ("ok", IMAGES, "all")
    assert charted(place, "reason")[day(20)] == "ok: like the reference nights"
    assert charted(place, "state") == {day(number): "reference" for number in range(20)} | {day(20): "ok"}
    assert {row["model_digest"] for row in rows(place, "drift")} == {DIGEST}


def test_one_slice_or_one_slice_a_night_give_equal_rows(tmp_path):
    slices = [night(20), night(21, light=0.3), night(22, light=0.3), night(23), night(24, blur=0.4)]
    at_once, apart = start(tmp_path / "a" / "out"), start(tmp_path / "b" / "out")
    scored(at_once, *(night(number) for number in range(20)), *slices)
    scored(apart, *(night(number) for number in range(18)))
    for one in (night(18), night(19), *slices):
        scored(apart, one)
    names = [name for name in rows(at_once, "drift")[0] if name != "decided_at"]
    assert charted(at_once, *names) == charted(apart, *names)
    assert verdicts(at_once) == verdicts(apart)
    newest = [
        {key: (found[-1]["state"], found[-1]["reason"]) for key, found in lots(place).items()} for place in (at_once, apart)
    ]
    assert newest[0] == newest[1] and newest[0][day(22), "L22"][0] == "not_judged"


@pytest.mark.parametrize(
    ("change", "source", "channel"),
    [({"light": 0.3}, "light", "brightness"), ({"blur": 0.4}, "focus", "sharpness_ratio"), ({"mix": 0.15}, "mix", "count")],
)
def test_what_has_changed_is_named(output, change, source, channel):
    (row,) = scored(output, night(20, **change))
    assert (row.night.state, row.night.since) == ("watch", day(20))
    assert source in row.night.sources
    (seen,) = (row for row in rows(output, "drift") if row["date"] == day(20))
    assert source in seen["source"].split(", ") and seen["state"] in seen["reason"]
    assert channel in seen["alarmed"]
    for name in seen["alarmed"].split(", "):
        assert abs(seen[f"{name}_distance"]) > seen[f"{name}_limit"] > 0
    assert abs(seen["size_distance"]) <= seen["size_limit"]


@pytest.fixture
def said(monkeypatch):
    """What is warned of, whatever others have done to logging."""
    lines = []
    warned = SimpleNamespace(info=lambda *_: None, warning=lambda text, *values: lines.append(text % values))
    monkeypatch.setattr(nights, "log", warned)
    monkeypatch.setattr(drift_chart, "log", warned)
    return lines


def test_watch_then_suspension_then_its_end(output, said):
    scored(output, night(20, light=0.3))
    (line,) = said
    assert line.startswith("2026-03-21 of model tiles: watch: light: brightness 34 % higher (limit ")
    assert line.endswith(" %) than in the 20 reference nights") and charted(output, "reason")[day(20)] in line
    lot = lots(output)[day(20), "L20"]
    assert [row["state"] for row in lot] == ["ok", "watch"]
    assert lot[1]["reason"].startswith(lot[0]["reason"]) and "watch: light: brightness 3" in lot[1]["reason"]
    assert {verdict for name, (verdict, _) in verdicts(output).items() if "/L20/" in name} <= {"ok", "flagged"}
    scored(output, night(21, light=0.3))
    says = f"drift: light since {day(20)}"
    assert {found for name, found in verdicts(output).items() if "/L21/" in name} == {("not_judged", says)}
    assert [(row["state"], row["reason"]) for row in lots(output)[day(21), "L21"]][-1] == ("not_judged", says)
    (row, *_) = (row for row in rows(output, "scores") if row["lot"] == "L21")
    assert row["score"] is not None and row["p_value"] is None and row["rank"] is None and row["q_value"] is None
    assert [row["state"] for row in lots(output)[day(20), "L20"]] == ["ok", "watch"], "a night is charted once"
    for number in (22, 23, 24):
        scored(output, night(number))
    assert charted(output, "state", "since")[day(24)] == ("ok", None)
    assert lots(output)[day(24), "L24"][-1]["state"] == "ok"
    assert [(day(number), charted(output, "state")[day(number)]) for number in (20, 21)] == [
        (day(20), "watch"),
        (day(21), "suspended"),
    ]


def test_late_images_of_suspended_and_watched_nights(output):
    scored(output, night(20, light=0.3))
    scored(output, night(21, light=0.3))
    before = charted(output, "images", "decided_at")
    assert scored(output, (day(21), [image("L21", "late", 0.0)]), (day(20), [image("L20", "late", 0.0)])) == []
    assert verdicts(output)["7/L21/late_top.png"] == ("not_judged", f"drift: light since {day(20)}")
    assert verdicts(output)["7/L20/late_top.png"] == ("ok", None)
    last = {number: lots(output)[day(number), f"L{number}"][-1] for number in (20, 21)}
    assert [(last[number]["planned"], last[number]["state"]) for number in (20, 21)] == [
        (IMAGES + 1, "watch"),
        (IMAGES + 1, "not_judged"),
    ]
    assert charted(output, "images", "decided_at") == before, "a night is charted once"


def test_other_nights_keep_their_rows_and_files_when_one_is_suspended(output):
    scored(output, night(20, light=0.3))
    compact(ledger(output))
    before, maps = verdicts(output), files_of(output, "maps")
    revisions = {key: len(found) for key, found in lots(output).items()}
    publish(output, [night(21, light=0.3), ("2026-04-02", [image("L99", "1", 0.0)])])
    files = files_of(output, "scores")
    chart(output)
    after = verdicts(output)
    assert {name for name in before if before[name] != after[name]} == set()
    assert len(files - files_of(output, "scores")) == 1, "one file holds the night"
    assert maps <= files_of(output, "maps")
    assert {key for key, count in revisions.items() if len(lots(output)[key]) != count} == set()


BY_LINE = Keys(judged_ledger.PATTERN, lot="lot", by=("line",))


def test_lines_are_charted_apart_and_a_lot_that_is_judged_in_part_is_never_ok(tmp_path):
    place = start(tmp_path / "out", BY_LINE, lines=("7", "8"))

    def lines(number, bad=0.0, **change):
        of, mine = night(number, **change)
        return of, mine + night(number, line="8", shift=bad)[1] + night(number, line="9", light=1.0)[1]

    scored(place, *(lines(number) for number in range(20)))
    scored(place, lines(20, light=0.3), lines(21, light=0.3), lines(22, bad=9.0, light=0.3))
    found = {(row["drift_group"], row["date"]): row["state"] for row in rows(place, "drift")}
    assert {group for group, _ in found} == {"line=7", "line=8"}, "what the calibration does not know is not charted"
    assert [found["line=7", day(number)] for number in (20, 21)] == ["watch", "suspended"]
    assert [found["line=8", day(number)] for number in (20, 21)] == ["ok", "ok"]
    by_line = {line: {found for name, found in verdicts(place).items() if f"{line}/L21/" in name} for line in "789"}
    says = f"drift: light since {day(20)}"
    assert by_line["7"] == {("not_judged", says)} and {verdict for verdict, _ in by_line["8"]} <= {"ok", "flagged"}
    lot = lots(place)[day(21), "L21"][-1]
    assert (lot["state"], lot["pieces"]) == ("not_judged", IMAGES) and lot["reason"].endswith(f"; {says}")
    assert lots(place)[day(22), "L22"][-1]["state"] == "hold", "what is judged of it holds it"


def test_views_have_centres_of_their_own(tmp_path):
    """A night with another share of dark views is no other night."""
    place = start(tmp_path / "out", BY_PIECE)

    def both(number, dark):
        of, tops = night(number)
        sides = [
            image(f"L{number}", f"{number}-{at:03}", float(tops[at]["score"]), "side", brightness=tops[at]["brightness"] / 3)
            for at in range(dark)
        ]
        return of, tops + sides

    scored(place, *(both(number, 30 + number % 3) for number in range(20)))
    (row,) = scored(place, both(20, 12))
    assert row.group == "line=7" and "light" not in row.night.sources and row.night.images == IMAGES + 12


def test_nights_of_few_images_or_without_a_day_wait(output):
    assert scored(output, night(20, images=19), ("batch", night(21)[1]), ("none", night(22)[1])) == []
    assert set(charted(output, "state")) == {day(number) for number in range(20)}
    assert scored(output, (day(20), [image("L20", "late", 0.1, brightness=100.0)])) != [], "now it has twenty"
    assert set(charted(output, "state")) == {day(number) for number in range(21)}


def test_the_first_images_of_a_day_are_not_its_night(tmp_path):
    place = start(tmp_path / "out")
    scored(place, *(night(number, images=100) for number in range(20)))
    of, images = night(20, images=100)
    assert scored(place, (of, images[:24])) == []
    (row,) = scored(place, (of, images[24:]))
    assert row.night.images == 100


def test_a_late_night_is_compared_with_what_was_before_it(output):
    scored(output, night(20), night(22, light=0.3), night(23, light=0.3))
    before = charted(output, "state", "carried")
    (row,) = scored(output, night(21, light=0.3))
    assert (row.night.state, row.night.since) == ("watch", day(21))
    after = charted(output, "state", "carried")
    assert {of: after[of] for of in before} == before
    (row,) = scored(output, night(24, light=0.3))
    assert (row.night.state, row.night.since) == ("suspended", day(22))


def test_another_calibration_starts_anew(output):
    scored(output, night(20, light=0.3), night(21, light=0.3))
    put_rule(output, calibration(BY_IMAGE, seed=3), digest="e" * 64)
    (row,) = scored(output, night(22, light=0.3))
    assert row.night.state == "reference" and row.calibration_digest == "e" * 64
    assert len(rows(output, "drift")) == 23, "nights that are charted stay as they are"
    assert {verdict for name, (verdict, _) in verdicts(output).items() if "/L21/" in name} <= {"ok", "flagged"}
    put_rule(output, calibration(BY_IMAGE), digest="c" * 64)
    rejudge(ledger(output))
    assert {verdict for name, (verdict, _) in verdicts(output).items() if "/L21/" in name} == {"not_judged"}


def test_another_rate_keeps_the_chart(output):
    scored(output, night(20, light=0.3), night(21, light=0.3))
    put_rule(output, calibration(BY_IMAGE), rate="0.2")
    (row,) = scored(output, night(22))
    assert row.night.state != "reference"
    assert {verdict for name, (verdict, _) in verdicts(output).items() if "/L21/" in name} == {"not_judged"}


def test_a_review_budget_keeps_the_thresholds_of_nights_that_are_suspended(output):
    put_rule(output, calibration(BY_IMAGE), review_budget=3)
    scored(output, night(20, light=0.3), night(21, light=0.3))

    def fixed():
        return {row["setting"]: row["new"] for row in rows(output, "decisions") if row["setting"].startswith("threshold of ")}

    before = fixed()
    assert {f"threshold of {day(number)}" for number in (20, 21)} <= before.keys()
    flagged = [name for name, (verdict, _) in verdicts(output).items() if verdict == "flagged"]
    assert len([name for name in flagged if "/L20/" in name]) == 3 and not [name for name in flagged if "/L21/" in name]
    scored(output, (day(21), [image("L21", "late", 99.0)]))
    assert fixed() == before and verdicts(output)["7/L21/late_top.png"][0] == "not_judged"


def test_the_reference_does_not_depend_on_the_rows_that_are_there_later(output, referred, tmp_path):
    changed = [dict(row, brightness=50.0) for row in night(3)[1]]
    publish(output, [(day(3), changed)])
    (mine,) = scored(output, night(20))
    other = shutil.copytree(referred, tmp_path / "other" / "out")
    (theirs,) = scored(other, night(20))
    assert mine.night.measured == theirs.night.measured


def test_images_that_do_not_compare_do_not_count(output):
    bad = [image("L20", f"bad{at}", 0.0, map_height=5, brightness=1.0) for at in range(40)]
    of, good = night(20)
    (row,) = scored(output, (of, good + bad + [image("L20", "lost", None)]))
    assert (row.night.state, row.night.images) == ("ok", IMAGES)


def test_models_without_usable_embeddings_are_charted_without(tmp_path):
    place = start(tmp_path / "out")
    same = np.zeros(32, np.float16).tobytes()
    scored(place, *(night(number, embedding=same) for number in range(19)), night(19, embedding=None))
    (row,) = scored(place, night(20, light=0.3, embedding=same))
    assert row.night.state == "watch" and row.night.sources == ("light",)
    (seen,) = (row for row in rows(place, "drift") if row["date"] == day(20))
    assert seen["embedding_mean_value"] is None and seen["score_count_value"] is not None


def test_scores_that_are_all_alike_make_no_reference_and_no_fault(tmp_path, said):
    place = start(tmp_path / "out")
    alike = [(of, [dict(row, score=1.0) for row in images]) for of, images in map(night, range(21))]
    assert {row.night.state for row in scored(place, *alike)} == {"reference"}
    assert said and all("make no reference yet" in line for line in said)
    scored(place, *(night(number) for number in range(21, 41)))
    (row,) = scored(place, night(41))
    assert row.night.state == "ok"


def test_no_commit_is_read_and_of_maps_only_the_night(output, monkeypatch):
    publish(output, [night(20)])
    monkeypatch.setattr(seen_images, "read_commits", lambda *_: pytest.fail("a commit was read"))
    opened = []

    def open_ranged(store, key, *etag):
        opened.append(key)
        return real(store, key, *etag)

    real = seen_images.open_ranged
    for module in (seen_images, night_images):
        monkeypatch.setattr(module, "open_ranged", open_ranged)
    assert len(chart(output)) == 1
    assert {key.partition("/")[0] for key in opened} == {"scores", "maps", "drift"}
    assert len({key for key in opened if key.startswith(("scores/", "maps/"))}) == 2, "files of the night alone"


def test_jobs_and_their_results_can_be_sent_to_other_processes(output):
    """As Ray does."""

    def sent(function, jobs):
        return (pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(job))))) for job in jobs)

    publish(output, [night(20, light=0.3), night(21, light=0.3)])
    assert [row.night.state for row in chart(output, map_fn=sent)] == ["watch", "suspended"]
    assert {verdict for name, (verdict, _) in verdicts(output).items() if "/L21/" in name} == {"not_judged"}


class Asked:
    """Counts the requests to a local store."""

    def __init__(self, monkeypatch):
        self.count = 0
        for name in ("get", "list", "get_range", "get_tail", "put_new", "put"):
            monkeypatch.setattr(LocalStore, name, self._counting(getattr(LocalStore, name)))

    def _counting(self, real):
        def call(*args, **options):
            self.count += 1
            return real(*args, **options)

        return call


def test_nothing_to_chart_costs_nothing(output, tmp_path, monkeypatch):
    other = tmp_path / "plain" / "out"
    publish(other, [night(0)])
    assert not read_head(ledger(other)).calibrated and read_head(ledger(output)).calibrated
    assert chart(other) == [] and not (other / "drift").exists()
    asked = Asked(monkeypatch)
    monkeypatch.setattr(nights, "publish", lambda *_: pytest.fail("no new slice, no look at the tables"))
    assert chart(output) == [] and 0 < asked.count <= 3, "only the last seal"


def test_a_large_look_that_finds_no_night_is_not_repeated(tmp_path, monkeypatch):
    place = start(tmp_path / "out")
    few = [(day(31 * month), night(month, images=2)[1]) for month in range(4)]
    publish(place, [*few, ("a day", night(9)[1])])
    looks = []
    monkeypatch.setattr(nights, "nights_in", lambda job: looks.append(job.file.partition["period"]) or real(job))
    real = night_images.nights_in
    chart(place)
    chart(place)
    assert len(looks) == 8 and "a day" not in looks, "few files, and none that can hold no night"
    monkeypatch.setattr(nights, "NOTED_FILES", 4)
    chart(place)
    chart(place)
    assert len(looks) == 12 and rows(place, "drift") == []
    scored(place, (few[0][0], night(0)[1]))
    assert len(looks) == 13, "the file with what is new"
    assert charted(place, "state") == {few[0][0]: "reference"}


@pytest.mark.parametrize("step", ["rows", "manifest", "scores", "lots", "drift", "seal"])
def test_one_that_is_stopped_is_finished_by_repeating_it(output, step, monkeypatch):
    publish(output, [night(20, light=0.3), night(21, light=0.3)])

    with monkeypatch.context() as patched:
        stop_publication(patched, step)
        patched.setattr(nights, "write_drift", stops(nights.write_drift, lambda *_: step == "rows"))
        with pytest.raises(Stopped):
            chart(output)
    chart(output)
    assert [charted(output, "state")[day(number)] for number in (19, 20, 21)] == ["reference", "watch", "suspended"]
    assert {verdict for name, (verdict, _) in verdicts(output).items() if "/L21/" in name} == {"not_judged"}
    assert [row["state"] for row in lots(output)[day(20), "L20"]] == ["ok", "watch"]


def test_a_reference_that_is_found_is_used(tmp_path):
    """Its driver was killed before the publication; meanwhile an earlier night has come."""
    output = start(tmp_path / "out")
    publish(output, [night(number) for number in range(1, 21)])
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(nights, "write_drift", lambda *_: (_ for _ in ()).throw(Stopped))
        chart(output)
    scored(output, night(0, light=0.3))
    assert charted(output, "state") == {day(0): "watch"} | {day(number): "reference" for number in range(1, 21)}


def test_two_drivers_at_once_give_one_row_a_night(output):
    publish(output, [night(20, light=0.3), night(21, light=0.3)])
    barrier = Barrier(2)

    def drive(_):
        barrier.wait()
        return len(chart(output))

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(drive, range(2)))
    assert sorted(counts) == [0, 2]
    assert [charted(output, "state")[day(number)] for number in (20, 21)] == ["watch", "suspended"]


def test_nights_of_another_model_version_have_a_chart_of_their_own(output):
    put_rule(output, calibration(BY_IMAGE, digest="f" * 64), digest="a" * 64)
    publish(output, [night(20)], digest="f" * 64)
    put_rule(output, calibration(BY_IMAGE, digest="f" * 64), digest="a" * 64)
    (row,) = chart(output)
    assert (row.model_digest, row.night.state) == ("f" * 64, "reference")
