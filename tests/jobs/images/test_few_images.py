"""What few images can and cannot give is one line; what calibration can promise is always said."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

from jobs.images.few_images import CURVES, FEW_TO_FIT, of_calibration, of_evaluation, of_fit, of_training


def test_ten_images_promise_nothing() -> None:
    (line,) = of_training(calibration=2, selection=1, region_share=0.05, told=False)
    assert line.startswith(
        "few images: 2 kept for calibration can promise no rate of false calls below 33.3 % on average, 77.6 % at 95 % "
        "confidence (5 % takes 19 and 59 pieces); "
    )
    assert "1 for selection set no threshold of the map and mark no regions (19 do)" in line
    assert "no such figure is kept" in line


@pytest.mark.parametrize(
    ("calibration", "selection", "says"),
    [
        (0, 19, None),
        (0, 0, None),
        (18, 19, "18 kept for calibration"),
        (0, 18, "18 for selection"),
        (0, 3, "3 for selection"),
    ],
)
def test_only_what_is_lacking_is_said(calibration: int, selection: int, says: str | None) -> None:
    lines = of_training(calibration, selection, region_share=0.05, told=True)
    assert len(lines) == (says is not None) and (says is None or says in lines[0] and "figure" not in lines[0])


@pytest.mark.parametrize(
    ("calibration", "promised"),
    [
        (19, "below 5 % on average, 14.6 % at 95 % confidence (1 % takes 99 and 299 pieces)"),
        (24, "below 4 % on average, 11.7 % at 95 % confidence (1 % takes 99 and 299 pieces)"),
        (99, "below 1 % on average, 2.98 % at 95 % confidence (0.1 % takes 999 and 2,995 pieces)"),
        (999, "below 0.1 % on average, 0.299 % at 95 % confidence"),
    ],
)
def test_what_calibration_can_promise_is_said_of_any_number(calibration: int, promised: str) -> None:
    calm, *few = of_training(calibration, selection=3, region_share=0.05, told=True)
    assert calm == f"{calibration} kept for calibration can promise no rate of false calls {promised}"
    assert len(few) == 1 and few[0].startswith("few images: 3 for selection")


def test_figures_that_are_left_out_are_named_though_regions_are_marked() -> None:
    (line,) = of_training(calibration=0, selection=2, region_share=0.5, told=False)
    assert "no such figure is kept" in line and "regions" not in line


def test_pieces_of_a_key_are_named_by_it() -> None:
    (line,) = of_training(calibration=1, selection=1, region_share=0.05, told=True, key="serial")
    assert "1 by serial kept for calibration" in line and "1 by serial for selection" in line


@pytest.mark.parametrize(
    ("pieces", "rates", "none_promised", "nothing_flagged"),
    [
        (8, (10, 20), True, True),
        (9, (10, 20), False, True),  # 10 % is promised, and score judges by 5 %
        (18, (10,), False, True),
        (19, (10,), False, False),
        (50, (100,), True, False),  # 1 % is not promised, and score flags at 5 % all the same
        (99, (100,), False, False),
    ],
)
def test_a_calibration_is_held_against_the_asked_rates_and_what_score_does_against_its_own(
    pieces: int, rates: tuple[int, ...], none_promised: bool, nothing_flagged: bool
) -> None:
    said = "".join(of_calibration(pieces, [Fraction(1, rate) for rate in rates]))
    assert ("promise none of the rates" in said) is none_promised
    assert ("score flags no piece and holds no lot at 5 %" in said) is nothing_flagged
    assert said == "" or said.startswith(f"few images: {pieces} good pieces: ")


def test_a_calibration_names_what_would_be_enough() -> None:
    (line,) = of_calibration(8, [Fraction(1, 10), Fraction(1, 20)])
    assert "none of the rates 10 %, 5 % (10 % takes 9 pieces)" in line and "(5 % takes 19 pieces)" in line


def test_types_whose_ranking_says_nothing_are_named() -> None:
    (line,) = of_evaluation(2, {"all": 2, "crack": 1}, "images")
    assert "all (2 images against 2 good), crack (1 images against 2 good)" in line and "once in 3 times" in line


@pytest.mark.parametrize("curve", CURVES)
def test_what_few_images_cost_is_what_the_page_says(curve) -> None:
    page = (Path(__file__).parents[3] / "docs" / "accuracy.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| {curve.detector} \| fold-0 \| .* \|$", page, re.MULTILINE)
    cells = [cell.strip().partition(",")[0] for cell in row.strip("|").split("|")]
    assert (cells[3], cells[6]) == (str(curve.at_32), str(curve.with_all))
    (line,) = of_fit(24, curve.detector)
    assert line.startswith("few images: 24 to fit; on the magnetic tiles") and f"{curve.at_32} with 32" in line


def test_the_detector_that_does_best_with_few_is_named_to_the_others() -> None:
    (line,) = of_fit(24, "csflow")
    assert line.endswith("(docs/accuracy.md); padim has 81.5 with 32. Images of more pieces help most")
    (line,) = of_fit(24, "padim")
    assert line.endswith("(docs/accuracy.md). Images of more pieces help most")


def test_of_a_detector_without_a_curve_the_page_is_named() -> None:
    (line,) = of_fit(FEW_TO_FIT - 1, "cflow")
    assert line == (
        "few images: 63 to fit; docs/accuracy.md says what so few cost other detectors. Images of more pieces help most"
    )
    assert of_fit(FEW_TO_FIT, "cflow") == []
