"""Calibrate a model on good images that it has not seen, so that scores get false-alarm rates."""

import shutil
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.command.entry import run
from jobs.command.errors import UsageError, check_unreadable
from jobs.command.model_folder import model_folder
from jobs.command.pattern_check import check_pattern
from jobs.command.places import check_folder, check_input, check_store, fix_of_nothing, local_place
from jobs.command.progress import Progress
from jobs.settings.calibration import CalibrateSettings
from models import artifact
from models.calibration import files
from models.calibration.build import Belongs, Scored, calibrate, select
from models.calibration.calibration import Calibration, Grid, Keys, Mode, Selection
from models.calibration.other_mode import rank_shift
from models.verdicts.rates import rate_of
from pipeline.decode.config import DecodeConfig
from pipeline.input.listing import open_input
from pipeline.scoring.device import resolve_device
from pipeline.state.scoring_config import SCORING_VERSION
from pipeline.storage.store import open_store

if TYPE_CHECKING:  # torch and scipy take seconds to load, so a wrong setting is answered before
    from jobs.images.kept import Kept
    from jobs.images.scored import ScoredSet
    from pipeline.scoring.scorer import Scorer

ALIKE = 0.9  # groups of near-duplicates an image; with fewer an image seems to be no piece
COMPARED = 20_000  # thumbnails that are compared with each other: time grows with the square


def main(settings: CalibrateSettings) -> None:
    """Calibrate a model on good images that it has not seen, so that scores get false-alarm rates.

    It prints what the good pieces promise and what is missing for more, and keeps the calibration in the model's folder. No
    score changes. Good images are those that train kept for it, if --input is what train read, or any others.
    """
    calibrated(settings)


def calibrated(settings: CalibrateSettings) -> artifact.Artifact:
    """Read and score the good images, and replace the calibration in the model's folder."""
    place = local_place(settings.model)
    for flag, uri in (("--input", settings.input), ("--challenge", settings.challenge), ("--repeats", settings.repeats)):
        if uri is not None:
            check_input(flag, uri)
    directory = model_folder(settings.model, settings.cache_dir)
    opened = artifact.read(directory, calibration=False)
    if place is not None:
        check_folder("--model", directory.resolve().parent)
    else:
        check_store("--model", settings.model)
    _check_patterns(settings)

    from jobs.images.good import Exclusions
    from jobs.images.kept import kept_images, seen_by
    from jobs.images.other_pieces import OtherPieces
    from jobs.images.scored import KeyReader, columns, score_images
    from pipeline.scoring.scorer import Scorer

    device, exclusions = resolve_device(settings.device), Exclusions(settings.exclude)
    earlier = _earlier(opened)
    scorer, decode = Scorer(artifact.load(opened, device), device), DecodeConfig.of(opened.config.input)
    seen, keys = seen_by(opened.config.trained), _keys(settings)
    source = settings.source_of_input()
    read_keys = KeyReader(source, keys, every_lot=settings.group_key is not None)
    others = OtherPieces(settings, keys, scorer, decode)
    by_image = not keys.piece
    found = score_images(
        "scoring",
        source,
        scorer,
        decode,
        read_keys,
        exclusions,
        leave_out=seen.fit.__contains__,
        once=by_image,
        with_thumbs=by_image,
        # Pieces that are left out below count too: the model was not fitted on these images of them.
        measured=lambda content_hash: content_hash not in seen.selection,
    )
    _say_read(found)
    if not found.images and not found.left_out:
        fix = fix_of_nothing(open_input(source), "Correct the place.")
        raise UsageError("--input", "a place with good images", settings.input, fix)
    check_unreadable(found.unreadable, len(found.images), settings.max_unreadable_share, settings.input)
    kept = kept_images(found, seen, opened.config.trained, settings.input)
    if any(image.named.lot is None for image in kept.good):
        keys = keys._replace(lot=None)
    good, selected = (_without_lots(columns(images), keys) for images in (kept.good, kept.selected))
    size = opened.config.input
    belongs = Belongs(
        opened.model_digest,
        Mode(scorer.label, scorer.batch_size, SCORING_VERSION),
        Grid(size.height, size.width, size.resize, tuple(sorted(found.maps))),
        keys,
    )
    selection = _selection(selected, good, earlier, belongs)
    with Progress("calibrating", total=None):
        made = calibrate(good, selection, belongs, settings.fractions())
    again = others.repeats(made, seen)
    made = replace(made, challenge=others.challenge(made), repeats=again.repeats, map_scale=found.cells.scale())
    with Progress("comparing", total=None) as progress:
        progress.note("images with each other")
        lines = [*kept.lines, *again.lines, *_pieces(made, good), *(_alike(found, kept) if by_image else [])]
        progress.note("with the calibration before")
        lines += _other_mode(earlier, found, made, scorer, decode, opened)
        progress.note("rates and lots")
        lines += _report(made, settings)
    print("\n".join(lines))
    saved = _put(settings.model, place, directory, made)
    print(f"calibration of {opened.config.name}: {settings.model}, digest {(saved.calibration_digest or '')[:16]}")
    return saved


def _check_patterns(settings: CalibrateSettings) -> None:
    """Challenge and repeats may lie elsewhere in another form: only a pattern of their own must fit them."""
    check_pattern(settings.source_of_input())
    others = (
        (settings.source_of_challenge(), "challenge_pattern", settings.challenge_pattern),
        (settings.source_of_repeats(), "repeats_pattern", settings.repeats_pattern),
    )
    for source, setting, pattern in others:
        if source is not None:
            check_pattern(source, setting, must_fit=pattern is not None)


def _earlier(opened: artifact.Artifact) -> Calibration | None:
    """The calibration that is to be replaced; a damaged one is said and not used."""
    try:
        return files.read(artifact.read(opened.directory))
    except artifact.ArtifactError as error:
        print(f"the calibration that is there is not used: {error}")
        return None


def _keys(settings: CalibrateSettings) -> Keys:
    lot = settings.group_key or "lot"
    return Keys(settings.key_pattern, settings.pieces(), settings.view_key, lot, settings.groups())


def _say_read(found: "ScoredSet") -> None:
    if found.ignored:
        print(f"ignored: {found.ignored:,} files that are no images or were not asked for")
    if found.excluded:
        print(f"left out by --exclude: {found.excluded:,} images")
    if found.repeats:
        print(f"left out: {found.repeats:,} images whose content was there before")
    if found.unreadable:
        print("not readable: " + ", ".join(f"{count:,} {reason}" for reason, count in found.unreadable.most_common()))


def _without_lots(images: Scored, keys: Keys) -> Scored:
    return images if keys.lot is not None else images._replace(lot=np.full(len(images.uri), ""))


def _selection(selected: Scored, good: Scored, earlier: Calibration | None, belongs: Belongs) -> Selection:
    """By the selection set, if the input has it, else as the calibration before had it, if that is of the same scores."""
    if not selected.images.readable.any() and earlier is not None:
        same = (earlier.mode, earlier.keys.view) == (belongs.mode, belongs.keys.view)
        if same and set(good.images.view.tolist()) <= set(earlier.selection.scales.views.tolist()):
            return earlier.selection
    return select(selected, good, belongs.keys)


def _pieces(made: Calibration, good: Scored) -> list[str]:
    """How many pieces there were and how many count."""
    group, names = made.groups[0], np.unique(good.images.piece)
    lines = [f"{len(good.uri):,} images of {len(names):,} pieces; {len(group.score):,} are complete and count"]
    if not made.keys.piece:
        lines.append("without --piece-key an image is a piece")
    others = len(names) - len(group.score)
    if others:
        kinds = ", ".join(str(images) for images in sorted(set(group.sets.sum(axis=1).tolist())))
        lines.append(
            f"{others:,} pieces have other numbers of readable images than {kinds} and do not count; new pieces like them are "
            "not judged, unless flagged by the images that are there"
        )
    if len(group.sets) > 1:
        counts = ", ".join(f"{len(group.scores(row)):,} of {sum(one)}" for row, one in enumerate(group.sets.tolist()))
        lines.append(f"image counts vary, and each is calibrated by itself (pieces of images): {counts}")
    if not made.knows_lots():
        lines.append("lots are not known: give --key-pattern with {lot}, or --group-key")
    return lines


def _alike(found: "ScoredSet", kept: "Kept") -> list[str]:
    """A warning if near-duplicates show that an image is no piece, or are too many to show it."""
    from models.fitting.groups import group_images

    readable = [image for image in kept.good if image.readable][:COMPARED]
    groups = group_images(None, None, np.stack([found.thumbs[image.thumbnail] for image in readable]))
    if not groups.basis.startswith("near-duplicate"):
        return [
            f"warning: more than a quarter of {len(readable):,} images are near-duplicates of each other, which tell no pieces "
            "apart. If several images show one piece, give --piece-key: counted as pieces, they promise more than they can keep"
        ]
    if groups.count() > ALIKE * len(readable):
        return []
    return [
        f"warning: {len(readable):,} images form {groups.count():,} groups of {groups.basis}. If several show one "
        "piece, give --piece-key: counted as pieces, images that are alike promise more than they can keep"
    ]


def _other_mode(
    earlier: Calibration | None,
    found: "ScoredSet",
    made: Calibration,
    scorer: "Scorer",
    decode: DecodeConfig,
    opened: artifact.Artifact,
) -> list[str]:
    """What another device or precision does to ranks, told before the calibration of the other mode is replaced."""
    from jobs.images.rescored import score_again

    trained = opened.config.trained.get("device")
    lines = []
    if trained is not None and str(trained).split(":")[0] != made.mode.label.split("-")[0]:
        lines.append(f"trained on {trained}, calibrated on {made.mode.label}: verdicts hold for scores made on the latter only")
    if earlier is None or earlier.mode == made.mode:
        return lines
    here = {image.content_hash: image.score for image in found.images if image.readable and image.content_hash}
    again = score_again([image for image in earlier.stored if image.content_hash not in here], scorer, decode)
    scores = here | again
    compared = [image for image in earlier.stored if image.content_hash in scores]
    if len(compared) < len(earlier.stored):
        lines.append(f"{len(earlier.stored) - len(compared):,} stored images can no longer be read and are not compared")
    if compared:
        shift = rank_shift(earlier, compared, [scores[image.content_hash] for image in compared])
        lines.append(shift.sentence(_mode(made.mode), _mode(earlier.mode)))
    lines.append(f"this calibration replaces that of {_mode(earlier.mode)}")
    return lines


def _mode(mode: Mode) -> str:
    return f"{mode.label} (batches of {mode.batch_size}, scoring version {mode.scoring_version})"


def _report(made: Calibration, settings: CalibrateSettings) -> list[str]:
    """What a user decides by."""
    from jobs.images.few_images import of_calibration
    from models.calibration.lot_plans import standing_out, table
    from models.calibration.promises import promises

    rates, group = settings.fractions(), made.groups[0]
    most = max(len(group.scores(row)) for row in range(len(group.sets)))
    lines = ["", *promises(made, rates), *of_calibration(most, rates)]
    for row in range(len(group.sets)):
        n = len(group.scores(row))
        if n:
            prefix = f"pieces of {group.sets[row].sum()} images: " if len(group.sets) > 1 else ""
            lines += ["", *(f"{prefix}{line}" for line in standing_out(n))]
            lines += ["", *(f"{prefix}{line}" for line in table(n, rates, _detection(made)))]
    return lines


def _detection(made: Calibration) -> dict[Fraction, float] | None:
    """The share of pieces with defects that the challenge says are found at least, at each rate."""
    from models.verdicts.exact_interval import at_least

    if made.challenge is None:
        return None
    whole = [one for one in made.challenge.detected if one.size_class == ""]
    return {rate_of(one.rate): float(at_least(one.flagged, one.pieces)) for one in whole}


def _put(uri: str, place: Path | None, directory: Path, made: Calibration) -> artifact.Artifact:
    """Into the model's folder, or into a copy of it whose new files then go to storage, the digests last."""
    from models.calibration import in_folder

    if place is not None:
        return in_folder.put(directory, made)
    with tempfile.TemporaryDirectory(prefix="flowscore-calibrate-") as folder:
        copy = Path(folder) / "model"
        shutil.copytree(directory, copy)
        saved, store = in_folder.put(copy, made), open_store(uri)
        for name in (*artifact.CALIBRATION_FILES, artifact.CARD, artifact.DIGESTS):
            store.put(name, (copy / name).read_bytes())
    return saved


if __name__ == "__main__":
    run(main)
