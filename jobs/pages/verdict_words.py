"""Verdicts in the words of the report's page."""

from fractions import Fraction

from models.calibration.promises import per_cent
from pipeline.report.facts import WorstImage
from pipeline.report.verdict_facts import Promise, Verdicts

VERDICTS = {"ok": "ok", "flagged": "flagged", "not_judged": "not judged"}
CALIBRATE = "flowscore calibrate --model MODEL --input GOOD_IMAGES"


def why_none(verdicts: Verdicts) -> str:
    """Why no piece of the run has a verdict, in one sentence. There must be a piece.

    >>> from pipeline.report.verdict_facts import NotJudged
    >>> alike = NotJudged("scored on cuda-bf16, calibrated on cpu-float32", 7, 7)
    >>> why_none(Verdicts((), 0, 0, 0, (), (alike,), 7, {}, {}, (), {"ab": "cd"}))
    'No piece could be judged: scored on cuda-bf16, calibrated on cpu-float32 (7 of 7 pieces).'
    """
    if not verdicts.calibrated:
        return "No image is flagged: its scores are not calibrated."
    first = verdicts.not_judged[0]
    return f"No piece could be judged: {first.reason} ({first.pieces:,} of {verdicts.not_judged_pieces:,} pieces)."


def promised(promises: tuple[Promise, ...]) -> list[str]:
    """What each rate promises of good pieces, a sentence each.

    >>> promised((Promise(Fraction(1, 20), 212, 10, Fraction(10, 213), 0.0789, Fraction(100, 213)),))[0][:91]
    'At a rate of 5 %, a good piece is flagged with at most 4.69 % on average over calibrations,'
    """
    sentences = []
    for rate in sorted({promise.rate for promise in promises}):
        mine = [promise for promise in promises if promise.rate == rate]
        numbers = [f"{n:,}" for n in sorted(promise.n for promise in mine)]
        others = numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        sentences.append(
            f"At a rate of {per_cent(rate)}, a good piece is flagged with at most "
            f"{per_cent(max(promise.on_average for promise in mine))} on average over calibrations, and with at most "
            f"{per_cent(max(promise.at_95 for promise in mine))} for 95 of 100 calibrations of {others} pieces. "
            "Both hold for pieces like those of the calibration; the second covers that lots differ only if it has 20 lots."
        )
    return sentences


def number(count: Fraction) -> str:
    """An expected number of pieces, to two digits or whole.

    >>> number(Fraction(330, 101)), number(Fraction(1, 30)), number(Fraction(49505, 10))
    ('3.3', '0.033', '4,950')
    """
    return f"{float(count):.2g}" if count < 100 else f"{float(count):,.0f}"


def said_of(image: WorstImage) -> str:
    """The verdict on an image's piece, and why it is not judged or lacks images; nothing where it is not calibrated."""
    said = VERDICTS[image.verdict]
    return f"{said}: {image.reason}" if image.reason is not None else said


def ranked(image: WorstImage) -> str:
    """Where the image's piece stands among good pieces, and the image itself if it is not all of its piece; "" if nowhere."""
    if image.rank is None or image.n_calibration is None or image.piece_p is None:
        return ""
    higher = (
        f"{image.rank - 1:,} of them score" if image.rank > 2 else "one of them scores" if image.rank == 2 else "none scores"
    )
    text = f"rank {image.rank:,} among {image.n_calibration:,} good pieces: {higher} as high, p {image.piece_p:.2g}"
    if image.piece is not None and image.p_value is not None:
        text += f"; this image alone: p {image.p_value:.2g}"
    return text
