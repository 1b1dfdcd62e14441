"""Measure a model on labelled images in the MVTec layout."""

import json
import math
import posixpath
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.aligned import aligned
from jobs.command.entry import run
from jobs.command.errors import UsageError, check_unreadable
from jobs.command.flags import Flag, Named
from jobs.command.model_folder import model_folder
from jobs.command.progress import Progress
from jobs.command.result_folder import check_result_file, put_result
from jobs.images.copied import copied
from jobs.images.labelled import ALL, GOOD, TEST, check_both_scored, check_listed, encoded_parts, labelled_set
from jobs.images.mask_files import GROUND_TRUTH
from jobs.images.piece_groups import PieceGroups
from models import artifact
from models.calibration import files
from models.calibration.calibration import Mode
from models.metrics.bootstrap import Interval, interval
from models.metrics.few import says_something
from pipeline.decode.config import DecodeConfig
from pipeline.scoring.device import DeviceSetting, resolve_device
from pipeline.state.scoring_config import SCORING_VERSION

if TYPE_CHECKING:  # torch and scipy take seconds to load, so a wrong setting is answered before
    from models.metrics.pixel_evidence import PixelEvidence

OF_IMAGES = ("image_auroc", "average_precision", "f1_max")
COLUMNS = {"image_auroc": "image AUROC", "average_precision": "AP", "f1_max": "F1-max"} | {
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "aupro_strict": "AUPRO 0.05",
}


class EvaluateSettings(BaseModel):
    """Settings of `flowscore evaluate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Flag[str] = Field(description="the model: a folder or s3://bucket/prefix")
    input: Flag[str] = Field(description="folder or s3://bucket/prefix with test/good, test/<defect type>, ground_truth")
    json_file: Annotated[str | None, Named("--json")] = Field(None, description="where all figures and scores go")
    groups: Flag[str | None] = Field(None, description="CSV path,group: intervals by piece, not by image")
    stress: Flag[bool] = Field(
        False, description="also AUROC and false calls of the images in other light, less sharp and moved"
    )
    device: Flag[DeviceSetting] = Field("auto", description="where images are scored")
    cache_dir: Path = Field(Path("~/.cache/flowscore"), description="folder that a remote model is copied to")
    draws: int = Field(1000, ge=100, description="draws of the bootstrap")
    pixel_draws: int = Field(200, ge=100, description="draws of the pixel figures' bootstrap")
    seed: int = Field(0, ge=0, description="seed of the bootstrap")
    max_unreadable_share: float = Field(0.05, ge=0, le=1, description="share of images that may be unreadable")


@dataclass(frozen=True)
class ImageScore:
    """One scored image of the labelled set. path: below the input.  defect_type: its folder.  score: raw.
    content_hash: of its file, 32 hex digits."""

    path: str
    defect_type: str
    score: float
    group: str
    content_hash: str


def evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """Score every image below test/, compare with the folder names and with ground_truth/, and return the figures.

    What lies in storage is copied to this machine until the end: masks are read twice, and images with them. Whatever is wrong
    with the rest is said before.
    """

    def check(keys: list[str]) -> None:
        check_listed(keys, settings.input)
        resolve_device(settings.device)

    with copied() as copies:
        groups = PieceGroups(None if settings.groups is None else copies.file("--groups", settings.groups))
        opened = artifact.read(model_folder(settings.model, settings.cache_dir))
        if settings.stress and opened.config.input.resize == "tile":
            rule = "for a model that sees whole images, since the tiles of one have a light and a place in common"
            raise UsageError("--stress", rule, f"{opened.config.name}, which sees tiles", "Leave it out.")
        root = copies.folder("--input", settings.input, (TEST, GROUND_TRUTH), check)
        return _evaluate(settings, opened, root, groups)


def _evaluate(settings: EvaluateSettings, opened: artifact.Artifact, root: Path, groups: PieceGroups) -> dict[str, Any]:
    """root: the labelled set on this machine."""
    labelled = labelled_set(root)
    device = resolve_device(settings.device)
    from jobs.images.few_images import of_evaluation
    from jobs.images.ground_truth import GroundTruth
    from jobs.images.kept import seen_by
    from jobs.images.labelled_at_rates import LabelledScore, as_json, lines_of, of_labelled
    from jobs.images.map_at_mask import at_mask
    from jobs.images.stressed import Stress
    from models.calibration.at_rates import AtRate
    from models.metrics.pixel_evidence import PixelEvidence
    from pipeline.in_process import score_encoded
    from pipeline.scoring.scorer import open_scorer

    with Progress("reading masks", total=None):
        truth = GroundTruth(labelled)
    scorer = open_scorer(opened.directory, device)
    decode = DecodeConfig.of(opened.config.input)
    scored: list[ImageScore] = []
    evidence = {name: PixelEvidence() for name in labelled.types}
    unreadable: Counter[str] = Counter()
    stress = Stress(scorer, decode, settings.seed) if settings.stress else None
    with Progress("evaluating", total=len(labelled.images)) as progress:
        for images, encoded in encoded_parts(labelled):
            progress.note(f"the next {len(images):,} images")
            decoded, result = score_encoded(encoded, decode, scorer)
            finite = scorer.finite(result)
            rows = decoded.drop_columns(["captured_at"]).to_pylist()
            hashes: dict[int, str] = {}  # of the scored images of this part
            for i, (image, row) in enumerate(zip(images, rows, strict=True)):
                if row["error"] is not None or not finite[i]:
                    unreadable[row["error"] or "score_not_finite"] += 1
                    continue
                hashes[i] = row["content_hash"]
                path = f"test/{image.key}"
                group = groups.of(path)
                scored.append(ImageScore(path, image.defect_type, float(result.score[i]), group, row["content_hash"]))
                mask = truth.mask(image, (row["height"], row["width"]))
                if mask is not None:
                    shown = at_mask(result.anomaly_map[i], mask.shape, row, decode)
                    counted = None if decode.roi is None else decode.roi.at_size(*mask.shape)
                    evidence[image.defect_type].add(shown, mask, group, counted)
            if stress is not None:
                stress.add(encoded, hashes, progress.note)
            progress.update(done=len(scored), errors=sum(unreadable.values()))
    if groups.lacking:
        print(f"--groups: {groups.lacking:,} images have no row in {settings.groups}; each is a group of its own")
    if groups.unused():
        print(f"--groups: {groups.unused():,} rows of {settings.groups} name no scored image")
    check_unreadable(unreadable, len(scored) + sum(unreadable.values()), settings.max_unreadable_share, settings.input)
    counts = Counter(image.defect_type for image in scored)
    check_both_scored(dict(counts), settings.input)
    calibration, seen = files.read(opened), seen_by(opened.config.trained)
    scores = [LabelledScore(i.path, i.group, i.score, i.defect_type != GOOD, i.content_hash) for i in scored]
    at_rates: list[AtRate] = []
    notes: list[str] = []
    if calibration is not None:
        mode = Mode(scorer.label, scorer.batch_size, SCORING_VERSION)
        at_rates, notes = of_labelled(calibration, scores, mode, seen, settings.groups is not None)
    good, few = _too_few(scored)
    notes += of_evaluation(good, few, "groups" if settings.groups else "images")
    report = {
        "model": opened.config.name,
        "model_digest": opened.model_digest,
        "input": settings.input,
        "images": dict(sorted(counts.items())),
        "unreadable": dict(unreadable),
        "defects_without_mask": truth.counts.without_mask,
        "masks": asdict(truth.counts),
        "notes": [*labelled.lines(), *truth.counts.lines(), *notes],
        "interval": "95 %, bootstrap by " + (f"group of {posixpath.basename(settings.groups)}" if settings.groups else "image"),
        "pixels": "maps enlarged bilinearly to the masks' own size; everything but a mask's background is defect, and grey "
        "edges are from 128 on; AUPRO to a false positive rate of 0.3, AUPRO 0.05 to one of 0.05",
        "f1_max": "the best threshold in hindsight: an oracle's figure, not an operating point",
        "figures": _all_figures(labelled.types, scored, evidence, few, settings),
        "calibration_digest": opened.calibration_digest,
        "at_rates": [as_json(one) for one in at_rates],
        "at_rates_in_words": lines_of(at_rates),
        "scores": [asdict(image) for image in scored],
    }
    if stress is not None:
        with Progress("figures of altered images", total=None):
            told = stress.report(scores, calibration, seen, settings.groups is not None, ALL in few, settings.draws)
        report["stress"] = told
    return report


def _too_few(scored: list[ImageScore]) -> tuple[int, dict[str, int]]:
    """Good pieces, and the pieces of each defect type, or of all, whose ranking against them says nothing."""
    pieces: dict[str, set[str]] = {}
    for image in scored:
        for name in (image.defect_type, *([ALL] if image.defect_type != GOOD else [])):
            pieces.setdefault(name, set()).add(image.group)
    good = len(pieces.pop(GOOD, ()))
    return good, {name: len(found) for name, found in sorted(pieces.items()) if not says_something(good, len(found))}


def _all_figures(
    types: list[str],
    scored: list[ImageScore],
    evidence: dict[str, "PixelEvidence"],
    few: dict[str, int],
    settings: EvaluateSettings,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """The figures of all images and of each defect type. few: the types that are too few to rank."""
    figures, names = {}, [ALL, *(name for name in types if name != GOOD)]
    with Progress("figures and their intervals", total=None) as progress:
        for done, name in enumerate(names):
            progress.note(name, done, len(names), "defect types")
            figures[name] = _figures(name, scored, evidence, settings, name in few)
    return figures


def _figures(
    name: str, scored: list[ImageScore], evidence: dict[str, "PixelEvidence"], settings: EvaluateSettings, few: bool
) -> dict[str, dict[str, float | None]]:
    """Every figure with its interval: one defect type against all good images, or all images.

    few: too few pieces to rank; figures of images are left out then, and those of pixels have no interval.
    """
    from models.metrics.pixel_evidence import pixel_intervals
    from models.metrics.ranking import auroc, average_precision, f1_max

    chosen = [image for image in scored if name == ALL or image.defect_type in (GOOD, name)]
    scores = np.array([image.score for image in chosen], np.float32)
    labels = np.array([image.defect_type != GOOD for image in chosen])

    def of_images(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([statistic(scores[drawn], labels[drawn]) for statistic in (auroc, average_precision, f1_max)])

    if few:
        figures = dict.fromkeys(OF_IMAGES, Interval(math.nan, math.nan, math.nan))
    else:
        found = interval(of_images, [image.group for image in chosen], settings.draws, settings.seed)
        figures = {key: Interval(*(float(part[i]) for part in found)) for i, key in enumerate(OF_IMAGES)}
    parts = [part for kind, part in evidence.items() if part.images and (name == ALL or kind in (GOOD, name))]
    if parts:
        of_pixels = pixel_intervals(parts, settings.pixel_draws, settings.seed)
        figures |= {key: one._replace(low=math.nan, high=math.nan) if few else one for key, one in of_pixels.items()}
    # JSON has no nan: a figure that does not exist is null.
    return {
        key: {part: value if math.isfinite(value) else None for part, value in figure._asdict().items()}
        for key, figure in figures.items()
    }


def table(report: dict[str, Any]) -> str:
    """The figures in percent, one line a defect type, with their intervals."""

    def cell(figure: dict[str, float | None]) -> str:
        value, low, high = (figure[part] for part in ("value", "low", "high"))
        if value is None:
            return "-"
        return f"{100 * value:.1f}" + (f" ({100 * low:.1f}-{100 * high:.1f})" if low is not None and high is not None else "")

    counts = report["images"]
    lines = [["type", "images", *COLUMNS.values()]]
    for name, figures in report["figures"].items():
        count = sum(counts.values()) if name == ALL else counts.get(name, 0)
        lines.append([name, str(count), *(cell(figures[key]) if key in figures else "-" for key in COLUMNS)])
    return "\n".join(
        [*aligned(lines), "", f"Percent; {report['interval']}. F1-max is {report['f1_max']}.", f"Pixels: {report['pixels']}."]
    )


def main(settings: EvaluateSettings) -> None:
    """Measure a model on labelled images in the MVTec layout."""
    if settings.json_file is not None:
        check_result_file("--json", settings.json_file)
    report = evaluate(settings)
    if settings.json_file is not None:
        put_result(settings.json_file, json.dumps(report, indent=1, allow_nan=False) + "\n")
    print(table(report))
    for line in report["at_rates_in_words"]:
        print(line)
    if "stress" in report:
        from jobs.images.stressed import lines_of

        print("", *lines_of(report["stress"]), "", sep="\n")
    for note in report["notes"]:
        print(note)
    if report["unreadable"]:
        print("not scored: " + ", ".join(f"{count} {reason}" for reason, count in report["unreadable"].items()))


if __name__ == "__main__":
    run(main)
