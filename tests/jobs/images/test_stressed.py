"""The figures of `evaluate --stress` from given scores: threshold, paired differences, false calls, and what is left out."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs.images.few_images import USUAL_RATE
from jobs.images.kept import Seen
from jobs.images.labelled_at_rates import LabelledScore
from jobs.images.stressed import UNALTERED, Stress, lines_of, rows, threshold
from models.alterations.stress import STRESS
from models.calibration.calibration import Mode
from models.calibration.example import calibration
from models.metrics.ranking import auroc
from pipeline.decode.config import DecodeConfig
from schemas.encoded import SCHEMA

MODE = Mode("cpu-float32", 16, 5)
NOTHING_SEEN = Seen(frozenset(), frozenset(), True)
GOODS, BADS = 40, 12
FIRST_HASH = 7 << 20  # of no image of the made-up calibration


def unaltered(seed: int = 0) -> list[LabelledScore]:
    """Two images a piece; defects score 2 higher."""
    rng = np.random.default_rng(seed)
    bad = [False] * GOODS + [True] * BADS
    return [
        LabelledScore(f"test/{i}.png", f"piece {i // 2}", float(np.float32(rng.normal() + 2 * b)), b, f"{FIRST_HASH + i:032x}")
        for i, b in enumerate(bad)
    ]


def stressed(scores: list[LabelledScore], change: float = 0.0) -> np.ndarray:
    """Every alteration but the last leaves scores as they are; the last raises those of goods."""
    found = np.array([[one.score for one in scores]] * len(STRESS), np.float32)
    found[-1, :GOODS] += np.float32(change)
    return found


def test_without_a_calibration_5_percent_of_the_unaltered_good_images_are_calls():
    scores = unaltered()
    found = threshold(None, scores, MODE, NOTHING_SEEN, False)
    assert found.by == UNALTERED and "the model has no calibration" in found.words and "the 40 good images" in found.words
    table = rows(scores, stressed(scores), found, draws=100, seed=0)
    assert table[0].false_calls.value == 2 / GOODS
    low, high = table[0].false_calls.low, table[0].false_calls.high
    assert low <= 0.05 <= high


def test_a_calibration_gives_the_threshold_and_images_that_the_model_knows_are_no_false_calls():
    known = calibration(pieces=60)
    group, view = known.groups[0], known.selection.scales.views[0]
    of_images = np.sort(known.images_of(group, view).scores)
    by_image = replace(known, keys=known.keys._replace(piece=()))
    scores = unaltered()
    seen = Seen(frozenset({scores[3].content_hash}), frozenset({scores[4].content_hash}), True)
    found = threshold(by_image, scores, MODE, seen, False)
    limit = of_images[-int(USUAL_RATE * (len(of_images) + 1))]
    counted = [one for i, one in enumerate(scores[:GOODS]) if i not in (3, 4)]
    assert found.by == "calibration" and f"the {len(counted)} good images above the calibrated threshold at 5 %" in found.words
    table = rows(scores, stressed(scores, change=9.0), found, draws=100, seed=0)
    assert table[0].false_calls.value == pytest.approx(np.mean([one.score > limit for one in counted]))
    assert table[-1].false_calls.value == 1
    # Where it says nothing of these images, the reason is said.
    for given, mode, groups, why in (
        (known, MODE, False, "--groups says what piece each image shows"),
        (by_image, MODE._replace(label="cuda-fp16"), True, "the calibration holds for cpu-float32, and this is cuda-fp16"),
    ):
        other = threshold(given, scores, mode, seen, groups)
        assert other.by == UNALTERED and why in other.words
    everything = Seen(frozenset(one.content_hash for one in scores), frozenset(), True)
    assert threshold(by_image, scores, MODE, everything, False).by == UNALTERED


def test_a_calibration_too_small_for_the_rate_is_no_threshold():
    few = calibration(pieces=12)
    found = threshold(few, unaltered(), few.mode, NOTHING_SEEN, True)
    assert found.by == UNALTERED and "the calibration cannot promise 5 %" in found.words


def test_the_page_says_how_often_every_image_is_scored_again():
    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text(encoding="utf-8")
    assert page.count(f"{len(STRESS)} times") == 2


def test_differences_are_paired_and_intervals_are_by_group():
    scores = unaltered()
    table = rows(scores, stressed(scores, change=1.0), threshold(None, scores, MODE, NOTHING_SEEN, False), 200, seed=0)
    assert [row.name for row in table] == [UNALTERED, *(alteration.name for alteration in STRESS)]
    bad = np.array([one.bad for one in scores])
    assert table[0].image_auroc.value == pytest.approx(auroc(stressed(scores)[0], bad))
    assert all(row.difference == (0, 0, 0) for row in table[:-1])  # the same scores in every draw
    last = table[-1]
    assert last.image_auroc.value == pytest.approx(auroc(stressed(scores, 1.0)[-1], bad))
    assert last.difference.value == pytest.approx(last.image_auroc.value - table[0].image_auroc.value)
    assert last.difference.low < last.difference.value < 0 >= last.difference.high  # a draw may rank perfectly both times
    alike = [one._replace(group="one piece") for one in scores]
    found = rows(alike, stressed(alike), threshold(None, alike, MODE, NOTHING_SEEN, False), 100, seed=0)
    assert all(np.isnan([row.false_calls.low, row.image_auroc.high]).all() for row in found)  # one piece has no interval


def reported(scores: list[LabelledScore], altered_scores: np.ndarray, few: bool = False) -> dict:
    stress = Stress(SimpleNamespace(label="cpu-float32", batch_size=16), None, 0)
    stress.scores = lambda: altered_scores  # type: ignore[method-assign]
    return stress.report(scores, None, NOTHING_SEEN, False, few, draws=100)


def test_images_whose_altered_score_is_not_finite_are_left_out_of_every_row():
    scores = unaltered()
    altered_scores = stressed(scores)
    altered_scores[2, 5] = np.nan
    altered_scores[4, -1] = np.inf
    report = reported(scores, altered_scores)
    assert report["left_out"] == 2 and report["false_calls_of"] == GOODS - 1
    left = [one for i, one in enumerate(scores) if i not in (5, len(scores) - 1)]
    expected = auroc(np.array([one.score for one in left]), np.array([one.bad for one in left]))
    assert report["rows"][0]["image_auroc"]["value"] == pytest.approx(expected)
    assert "not finite: 2 images" in lines_of(report)[-1]


def test_the_table_is_aligned_and_says_what_does_not_exist():
    scores = unaltered()
    lines = lines_of(reported(scores, stressed(scores, 1.0)))
    assert lines[0].split("  ")[0] == "altered" and lines[1].startswith("unaltered")
    assert len(lines) == 1 + 1 + len(STRESS) + 2 and "Differences are to the unaltered images, paired." in lines[-1]
    start = lines[0].index("image AUROC")
    assert all(line[start - 1] == " " != line[start] for line in lines[: len(STRESS) + 2])
    shown = lines[len(STRESS) + 1]
    assert shown.startswith("rotation 5 degrees") and "(-" in shown
    few = reported(scores, stressed(scores), few=True)
    assert few["rows"][0]["image_auroc"]["value"] is None and few["rows"][0]["false_calls"]["value"] == 0.05
    assert lines_of(few)[1].split()[1] == "-"


@pytest.mark.parametrize(("resize", "shown"), [("pad", slice(24, 40)), ("squash", slice(0, 64))])
def test_of_a_padded_image_the_picture_is_altered_and_not_the_padding(resize: str, shown: slice):
    seen: list[np.ndarray] = []

    def scorer(pixels):
        seen.append(pixels)
        return SimpleNamespace(score=np.zeros(len(pixels), np.float32))

    scorer.batch_size = 4
    encoded = io.BytesIO()
    Image.fromarray(np.full((20, 80, 3), 100, np.uint8)).save(encoded, "png")
    table = pa.Table.from_pylist(
        [{name: None for name in SCHEMA.names} | {"key": "a.png", "encoded": encoded.getvalue()}], SCHEMA
    )
    stress = Stress(scorer, DecodeConfig(height=64, width=64, resize=resize), seed=0)
    stress.add(table, {0: "0" * 64}, lambda what, done, total: None)
    gradient = seen[[alteration.name for alteration in STRESS].index("gradient 40 %")][0]
    assert (gradient[shown].min(), gradient[shown].max()) == (60, 140)
    assert (gradient[: shown.start] == gradient[shown.start]).all() and (
        gradient[shown.stop :] == gradient[shown.stop - 1]
    ).all()
