"""Which scored images may calibrate: those that the model has never seen, by their contents, in whole pieces."""

from typing import Any, NamedTuple

from jobs.command.errors import UsageError
from jobs.images.scored import ScoredImage, ScoredSet

DIGITS = 32
TRAINING_INPUT = 0.5  # share of the fitted images whose presence shows that the input is the one that train read


class Seen(NamedTuple):
    """Content hashes of the images that the model was fitted and selected on; known is False if it does not record them."""

    fit: frozenset[str]
    selection: frozenset[str]
    known: bool


class Kept(NamedTuple):
    """good: images for the calibration.  selected: those of the selection set.  lines: what was left out, in words."""

    good: list[ScoredImage]
    selected: list[ScoredImage]
    lines: list[str]


def seen_by(trained: dict[str, Any]) -> Seen:
    """What the artifact's record of its training says."""
    hashes = trained.get("content_hashes")
    if not isinstance(hashes, dict):
        return Seen(frozenset(), frozenset(), False)
    fit, selection = (
        frozenset(text[at : at + DIGITS] for at in range(0, len(text), DIGITS))
        for text in (hashes.get("fit", ""), hashes.get("selection", ""))
    )
    return Seen(fit - selection, selection, True)


def kept_images(found: ScoredSet, seen: Seen, trained: dict[str, Any], where: str) -> Kept:
    """Splits what was read, and leaves out every piece of which the model has seen an image.

    An input with at least half of the fitted images is the one that train read: its fitted images are left out, and its
    selection images give the scales of the views.

    Raises:
        UsageError: another input has images that the model was fitted or selected on; or no image is left.
    """
    fitted = {image.content_hash for image in found.left_out}
    selected = [image for image in found.images if image.content_hash in seen.selection]
    good = [image for image in found.images if image.content_hash not in seen.selection]
    again = len(fitted) >= max(1, TRAINING_INPUT * len(seen.fit))
    if (fitted or selected) and not again:
        example = (found.left_out or selected)[0]
        raise UsageError(
            "--input",
            "images that the model has not seen, or all that train read",
            f"{len(found.left_out) + len(selected):,} images that it was fitted or selected on, such as {example.key}",
            f"Remove them from {where}: good pieces that the model knows score lower than new ones, so rates would be untrue.",
        )
    lines = []
    if not seen.known:
        lines.append("the model does not record what it was fitted on, so nothing shows whether it has seen these images")
    if again:
        lines.append(
            f"the input is the one that train read: {len(found.left_out):,} fitted images are left out, "
            f"{len(selected):,} of the selection set only give scales"
        )
        if len(good) > trained["calibration"]:
            more = len(good) - trained["calibration"]
            excluded = (
                f"; train left out {trained['excluded']:,} by --exclude: give the same file here" if trained["excluded"] else ""
            )
            lines.append(f"train kept {trained['calibration']:,} images for calibration, {more:,} more are here{excluded}")
    known = {image.named.piece for image in found.left_out}
    whole = [image for image in selected if image.named.piece not in known]
    known |= {image.named.piece for image in selected}
    fresh = [image for image in good if image.named.piece not in known]
    if len(fresh) < len(good):
        lines.append(
            f"{len(good) - len(fresh):,} images are left out, since the model has seen other images of the same pieces: "
            "train with --group-key to keep pieces together"
        )
    lots = {image.named.lot for image in fresh} & {image.named.lot for image in found.left_out} - {None}
    if lots:
        lines.append(
            f"{len(lots):,} lots of the calibration were fitted on too: new lots may score higher than these, so calibrate "
            "with lots of their own (train with --group-key) before relying on a rate"
        )
    if not any(image.readable for image in fresh):
        raise UsageError(
            "--input", "a place with good images that the model has not seen", where, _what_to_give(again, trained)
        )
    return Kept(fresh, whole, lines)


def _what_to_give(again: bool, trained: dict[str, Any]) -> str:
    if again and not trained["calibration"]:
        return "train kept none for calibration (--calibration-share 0): give other good images, or train again."
    return "Give good images that can be read."
