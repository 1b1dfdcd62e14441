"""Scores pieces that do not calibrate: those with known or seeded defects, and those that were taken out and imaged again."""

from typing import NamedTuple

from jobs.command.errors import UsageError, check_unreadable
from jobs.images.good import Exclusions
from jobs.images.kept import Seen
from jobs.images.scored import KeyReader, check_keys, columns, score_images
from jobs.settings.calibration import CalibrateSettings
from models.calibration.calibration import Calibration, Challenge, Keys, Repeats
from models.calibration.challenged import challenged
from models.calibration.repeated import repeated
from pipeline.decode.config import DecodeConfig
from pipeline.scoring.scorer import Scorer


class FoundRepeats(NamedTuple):
    """repeats: None if the settings name none.  lines: what was left out, in words."""

    repeats: Repeats | None
    lines: list[str]


class OtherPieces:
    """Pieces are found by the keys of the calibration, but need no lot and no value of `by`.

    Raises UsageError if a key is lacking where it is read first, so that this is found before anything is scored.
    """

    def __init__(self, settings: CalibrateSettings, keys: Keys, scorer: Scorer, decode: DecodeConfig) -> None:
        self._settings, self._scorer, self._decode = settings, scorer, decode
        keys = keys._replace(lot=None, by=())
        self._challenge, self._repeats = settings.source_of_challenge(), settings.source_of_repeats()
        if self._challenge is not None:
            pattern = "challenge_pattern" if settings.challenge_pattern else "--key-pattern"
            self._of_challenge = KeyReader(self._challenge, keys, settings.size_key, pattern=pattern)
            check_keys(self._challenge, self._of_challenge)
        if self._repeats is not None:
            pattern = "repeats_pattern" if settings.repeats_pattern else "--key-pattern"
            self._of_repeats = KeyReader(self._repeats, keys, pattern=pattern, take=settings.repeat_key)
            check_keys(self._repeats, self._of_repeats)

    def challenge(self, made: Calibration) -> Challenge | None:
        """How many pieces with defects are flagged; None without --challenge."""
        source, settings = self._challenge, self._settings
        if source is None:
            return None
        found = score_images("challenge", source, self._scorer, self._decode, self._of_challenge, Exclusions(None))
        check_unreadable(found.unreadable, len(found.images), settings.max_unreadable_share, source.input_uri)
        sizes = [image.named.size for image in found.images]
        return challenged(made, source.input_uri, columns(found.images).images, sizes, settings.rates.split(","))

    def repeats(self, made: Calibration, seen: Seen) -> FoundRepeats:
        """How far verdicts on pieces that were imaged again agree.

        A piece is left out if the model was fitted or selected on an image of it, as in the calibration: pieces that it
        knows score lower than new ones, and so agree more often. Copies of an image are no second imaging.
        Raises UsageError if no piece is left that was imaged twice.
        """
        source, settings = self._repeats, self._settings
        if source is None:
            return FoundRepeats(None, [])
        known = seen.fit | seen.selection
        found = score_images(
            "repeats", source, self._scorer, self._decode, self._of_repeats, Exclusions(None), known.__contains__, once=True
        )
        check_unreadable(found.unreadable, len(found.images), settings.max_unreadable_share, source.input_uri)
        left_out = {image.named.piece for image in found.left_out}
        images = [image for image in found.images if image.named.piece not in left_out]
        lines = []
        if left_out:
            lines.append(
                f"of --repeats, {len(left_out):,} pieces are left out: the model was fitted or selected on images of them, "
                "and verdicts on pieces that it knows agree more often"
            )
        if found.repeats:
            lines.append(f"of --repeats, {found.repeats:,} images are left out: copies of others are no second imaging")
        _check_imaged_again({(image.named.piece, image.named.take) for image in images}, len(left_out))
        takes = [image.named.take for image in images]
        again = repeated(made, source.input_uri, columns(images).images, takes, settings.rates.split(","))
        return FoundRepeats(again, lines)


def _check_imaged_again(imagings: set[tuple[str, str]], known: int) -> None:
    pieces = {piece for piece, _ in imagings}
    if len(imagings) == len(pieces):
        rule = "a place with new images of pieces that were imaged at least twice"
        counts = f"{len(pieces):,} pieces imaged once" + (f", {known:,} that the model knows" if known else "")
        fix = "Image pieces again that the model has not seen, and name the key that numbers their imagings by --repeat-key."
        raise UsageError("--repeats", rule, counts, fix)
