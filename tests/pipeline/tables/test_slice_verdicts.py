"""Verdicts in a publication: of the slice's own images, and of those in the tables that belong to the same pieces and lots."""

import fake_run
import judged_ledger
import numpy as np
import pytest
from fake_run import MODEL
from judged_ledger import BY_IMAGE, calibration, files_of, image, lots, publish, put_rule, rows, verdicts

from pipeline.input.config import SourceConfig
from pipeline.state.ledger import Ledger
from pipeline.tables import rewrite, seen_images, slice_rows
from pipeline.tables.held import HoldLimits
from pipeline.tables.publish_slice import publish_slice
from pipeline.tables.rejudge import rejudge

DAY, NEXT = "2026-05-04", "2026-05-05"


def pieces(lot, scores, start=0, views=judged_ledger.VIEWS, **columns):
    """Complete pieces with these scores."""
    return [image(lot, f"{at:04}", score, view, **columns) for at, score in enumerate(scores, start) for view in views]


@pytest.fixture
def output(tmp_path):
    """A ledger whose model is judged by pieces of two views."""
    place = tmp_path / "out"
    publish(place, [(DAY, pieces("L0", [0.0]))])
    put_rule(place, calibration())
    return place


def test_pieces_lots_and_columns(output):
    publish(output, [(NEXT, [*pieces("L1", [0.0] * 30 + [9.0]), image("L1", "x", 0.0), image("L1", "y", 9.0)])])
    found = verdicts(output)
    assert found["7/L1/0000_top.png"] == found["7/L1/0000_side.png"] == ("ok", None)
    assert found["7/L1/0030_top.png"] == ("flagged", None)
    assert found["7/L1/x_top.png"] == ("not_judged", "1 of 2 views")
    assert found["7/L1/y_top.png"] == ("flagged", "1 of 2 views")
    assert found["7/L0/0000_top.png"] == ("ok", None), "what was published before the rule is judged too"
    (row,) = (row for row in rows(output, "scores") if row["uri"].endswith("0030_side.png"))
    assert (row["piece"], row["view"], row["rank"], row["n_calibration"]) == ("0030", "side", 1, 100)
    assert row["piece_p"] == 1 / 101 and row["p_value"] == 1 / 101 and row["q_value"] == pytest.approx(31 / 101)
    assert (row["calibration_digest"], row["calibration_group"]) == ("c" * 64, "line=7")
    ((lot,),) = (lots(output)[NEXT, "L1"],)
    expected = {"planned": 64, "scored": 64, "unreadable": 0, "pieces": 31, "flagged": 2, "revision": 0, "rate": "0.05"}
    assert {name: lot[name] for name in expected} == expected
    assert (lot["state"], lot["basis"], lot["calibration_digest"]) == ("ok", "lots_model", "c" * 64)


def test_the_order_in_which_images_come_changes_no_verdict(tmp_path):
    """A night at once, one slice a view, and one unit an image: the same verdicts, lots and q-values."""
    rng = np.random.default_rng(1)
    night = pieces("L1", rng.normal(size=40).tolist()) + pieces("L2", rng.normal(2, 1, size=20).tolist(), start=40)
    night += [image("L2", "bad", None), image("L2", "bad", 0.0, "side"), image("L2", "odd", 1.0, "top")]
    ways = {
        "whole": [[(DAY, night)]],
        "units": [[(DAY, [one]) for one in night]],
        "views": [[(DAY, [one for one in night if f"_{view}" in one["key"]])] for view in judged_ledger.VIEWS],
        "thirds": [[(DAY, night[at::3])] for at in range(3)],
    }
    seen = {}
    for way, slices in ways.items():
        place = tmp_path / way / "out"
        publish(place, [(NEXT, [image("L9", "1", 0.0)])])
        put_rule(place, calibration())
        for content in slices:
            publish(place, content)
        named = ("verdict", "reason", "rank", "p_value", "piece_p", "q_value", "piece")
        scores = {row["uri"]: [row[name] for name in named] for row in rows(place, "scores")}
        newest = {}
        for key, found in lots(place).items():
            newest[key] = {name: value for name, value in found[-1].items() if name not in ("revision", "decided_at")}
        seen[way] = scores, newest
    assert seen["units"] == seen["whole"] and seen["views"] == seen["whole"] and seen["thirds"] == seen["whole"]
    assert len({str(verdict) for verdict in seen["whole"][0].values()}) > 20


def test_a_late_image_changes_its_piece_and_its_lot_only(output):
    publish(output, [(NEXT, [*pieces("L1", [0.0] * 30), image("L1", "late", 0.0)])])
    publish(output, [(NEXT, pieces("L2", [0.0] * 30))])
    before, files, others = verdicts(output), files_of(output, "scores"), files_of(output, "maps")
    publish(output, [(NEXT, [image("L1", "late", 9.0, "side")])])
    after = verdicts(output)
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {"7/L1/late_top.png", "7/L1/late_side.png"}
    assert after["7/L1/late_top.png"] == ("flagged", None)
    assert [row["revision"] for row in lots(output)[NEXT, "L1"]] == [0, 1]
    assert [row["pieces"] for row in lots(output)[NEXT, "L1"]] == [30, 31]
    assert len(lots(output)[NEXT, "L2"]) == len(lots(output)[DAY, "L0"]) == 1
    assert len(files - files_of(output, "scores")) == 1, "one file holds the lot"
    assert others < files_of(output, "maps"), "maps only get additions"


def test_a_mended_image_leaves_no_trace_of_its_error(output):
    publish(output, [(NEXT, [*pieces("L1", [0.0] * 9), image("L1", "m", None), image("L1", "m", 0.0, "side")])])
    (before,) = lots(output)[NEXT, "L1"]
    assert (before["unreadable"], before["planned"], before["pieces"], before["state"]) == (1, 20, 9, "ok")
    publish(output, [(NEXT, [image("L1", "m", 0.0)])])
    after = lots(output)[NEXT, "L1"][-1]
    assert (after["unreadable"], after["planned"], after["pieces"]) == (0, 20, 10)
    assert verdicts(output)["7/L1/m_side.png"] == ("ok", None)


def test_too_many_unreadable_images_leave_the_lot_not_judged_and_its_pieces_judged(output):
    publish(output, [(NEXT, [*pieces("L1", [0.0] * 9), image("L1", "m", None), image("L1", "n", None)])])
    (lot,) = lots(output)[NEXT, "L1"]
    assert (lot["state"], lot["reason"]) == ("not_judged", "2 of 20 images could not be read, more than 5 %")
    assert verdicts(output)["7/L1/0000_top.png"] == ("ok", None)


def test_another_device_or_line_is_not_judged(output):
    publish(output, [(NEXT, pieces("L1", [9.0], line="8"))])
    assert verdicts(output)["8/L1/0000_top.png"] == ("not_judged", "line '8' is not in the calibration")
    assert lots(output)[NEXT, "L1"][0]["state"] == "not_judged"


@pytest.mark.parametrize("keys", [judged_ledger.BY_PIECE, judged_ledger.Keys(None, by=("line",))])
def test_a_key_pattern_without_the_fields_of_the_calibration_leaves_images_not_judged(tmp_path, keys):
    place, source = tmp_path / "out", SourceConfig(input_uri=fake_run.INPUT)
    fake_run.published(place, [(DAY, [fake_run.scored("a.png", 0.0, keys=[], lot=None)])], source=source)
    put_rule(place, calibration(keys))
    fake_run.published(place, [(DAY, [fake_run.scored("b.png", 0.0, keys=[], lot=None)])], source=source)
    lacks = "the path says no serial, so its piece is not known"
    if not keys.piece:
        lacks = "the path says no line, so its calibration group is not known"
    assert verdicts(place) == dict.fromkeys(("a.png", "b.png"), ("not_judged", lacks))


def test_an_image_that_lacks_one_of_the_keys_of_a_piece_is_of_none(tmp_path):
    """It has no part of a name, and its reason is its own."""
    place, keys = tmp_path / "out", judged_ledger.Keys(None, ("lot", "line", "serial"), "camera", "lot")
    publish(place, [(DAY, pieces("L0", [0.0]))])
    put_rule(place, calibration(keys))
    lacking = {"keys": [("line", "7"), ("camera", "top")]}
    publish(place, [(NEXT, [image("L1", "a", None, **lacking), image("L1", "b", 0.0, **lacking)])])
    assert verdicts(place)["7/L1/b_top.png"] == ("not_judged", "the path says no serial, so its piece is not known")
    (row,) = (row for row in rows(place, "scores") if row["uri"].endswith("L1/b_top.png"))
    assert row["piece"] is None and row["n_calibration"] is None


def test_without_a_calibration_nothing_is_judged_and_nothing_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(seen_images, "read_commits", lambda *_: pytest.fail("commits were read for verdicts"))
    publish(tmp_path / "out", [(DAY, pieces("L1", [0.0]))])
    assert set(verdicts(tmp_path / "out").values()) == {("not_judged", "not calibrated")}
    assert lots(tmp_path / "out") == {}


def test_a_new_night_reads_no_file_of_earlier_ones(output, monkeypatch):
    publish(output, [(NEXT, pieces("L1", [0.0]))])
    opened = []

    def open_ranged(store, key, *etag):
        opened.append(key)
        return real(store, key, *etag)

    real = seen_images.open_ranged
    monkeypatch.setattr(seen_images, "open_ranged", open_ranged)
    monkeypatch.setattr(rewrite, "open_ranged", open_ranged)
    publish(output, [(NEXT, pieces("L2", [0.0]))])
    assert opened and not [key for key in opened if key.startswith(("scores/", "errors/"))]


def test_an_image_that_moves_to_another_lot_leaves_the_first(tmp_path):
    """A tar whose members change: the object is the same, the lots are not."""
    place = tmp_path / "out"
    archive = f"{fake_run.INPUT}/x.tar"
    publish(place, [(DAY, [image("L1", "1", 0.0, uri=archive), image("L1", "2", 0.0, uri=archive)])])
    put_rule(place, calibration(BY_IMAGE))
    rejudge(Ledger(str(place), MODEL))
    assert lots(place)[DAY, "L1"][-1]["pieces"] == 2
    publish(place, [(DAY, [image("L2", "1", 0.0, uri=archive)])])
    assert lots(place)[DAY, "L2"][-1]["pieces"] == 1
    last = lots(place)[DAY, "L1"][-1]
    assert (last["planned"], last["state"], last["reason"]) == (0, "not_judged", "no image of it is left")


def test_pieces_of_no_lot_are_put_together_over_slices(output):
    none = {"lot": None}
    publish(output, [(NEXT, [image("x", "1", 0.0, "top", **none)])])
    publish(output, [(NEXT, [image("x", "1", 0.0, "side", **none), image("y", "2", 0.0, "side", **none)])])
    found = verdicts(output)
    assert found["7/x/1_top.png"] == found["7/x/1_side.png"] == ("ok", None)
    assert found["7/y/2_side.png"] == ("not_judged", "1 of 2 views")
    assert set(lots(output)) == {(DAY, "L0")}


def test_a_slice_is_published_by_rules_that_are_in_force(output):
    """A rule that is decided while the slice waits is first brought to the rows that are there."""
    number = fake_run.write_slice(output, [(NEXT, pieces("L1", [9.0] * 3))], source=judged_ledger.SOURCE)
    assert verdicts(output)["7/L0/0000_top.png"] == ("not_judged", "not calibrated")
    publish_slice(Ledger(str(output), MODEL), number, HoldLimits())
    assert verdicts(output)["7/L0/0000_top.png"] == ("ok", None)
    assert verdicts(output)["7/L1/0002_top.png"] == ("flagged", None)
    assert [row["entry"] for row in lots(output)[NEXT, "L1"]] == [row["entry"] for row in rows(output, "decisions")][:1]


def test_a_review_budget_flags_so_many_pieces_a_night_and_fixes_the_threshold(output):
    put_rule(output, calibration(), rate="0.01", review_budget=3)
    scores = [round(0.1 * at, 1) for at in range(20)]
    publish(output, [(NEXT, pieces("L1", scores)), (NEXT, [image("L2", "part", 2.5)])])
    flagged = {name for name, (verdict, _) in verdicts(output).items() if verdict == "flagged" and name.startswith("7/L1")}
    assert flagged == {f"7/L1/{at:04}_{view}.png" for at in (18, 19) for view in judged_ledger.VIEWS}
    assert verdicts(output)["7/L2/part_top.png"] == ("flagged", "1 of 2 views"), "what is left of a piece counts too"
    (fixed,) = (row for row in rows(output, "decisions") if row["setting"] == f"threshold of {NEXT}")
    assert (fixed["decided_by"], fixed["old"]) == ("review_budget", None)
    before = verdicts(output)
    publish(output, [(NEXT, pieces("L3", [9.0, 8.0, 0.0]))])
    after = verdicts(output)
    assert {name: after[name] for name in before} == before, "late pieces change no other"
    assert [after[f"7/L3/{at:04}_top.png"][0] for at in range(3)] == ["flagged", "flagged", "ok"]
    assert len([row for row in rows(output, "decisions") if row["setting"] == f"threshold of {NEXT}"]) == 1
    assert lots(output)[NEXT, "L1"][-1]["flagged"] == 0, "lots go by the rate, which was decided beforehand"


def test_another_budget_is_decided_for_every_night_anew(output):
    publish(output, [(NEXT, pieces("L1", [0.1 * at for at in range(20)]))])
    ledger = Ledger(str(output), MODEL)
    for budget in (5, 2):
        put_rule(output, calibration(), review_budget=budget)
        rejudge(ledger)
        flagged = [name for name, (verdict, _) in verdicts(output).items() if verdict == "flagged"]
        assert len([name for name in flagged if name.startswith("7/L1")]) == 2 * budget
    fixed = [row for row in rows(output, "decisions") if row["setting"].startswith("threshold of")]
    assert sorted((row["entry"], row["setting"]) for row in fixed) == [
        (entry, f"threshold of {day}") for entry in sorted({row["entry"] for row in fixed}) for day in (DAY, NEXT)
    ]
    assert rejudge(ledger).files == 0


def test_a_night_of_images_keeps_to_the_budget_over_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(slice_rows, "JOB_IMAGES", 7)
    place = tmp_path / "out"
    publish(place, [(DAY, [image("L0", "1", 0.0)])])
    put_rule(place, calibration(BY_IMAGE), review_budget=4)
    night = [image("L1", f"{at:02}", 0.1 * at, lot=None if at % 2 else "L1") for at in range(30)]
    publish(place, [(NEXT, night[at : at + 5]) for at in range(0, 30, 5)])
    flagged = {name for name, (verdict, _) in verdicts(place).items() if verdict == "flagged"} - {"7/L0/1_top.png"}
    assert flagged == {f"7/L1/{at}_top.png" for at in (26, 27, 28, 29)}
