"""Measure a model on labelled images in the MVTec layout."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.config import load
from jobs.command.entry import run
from jobs.command.errors import check_unreadable
from jobs.command.progress import Progress
from jobs.images.ground_truth import GroundTruth, check_both_scored
from jobs.images.groups import group_of, read_groups
from jobs.images.labelled import ALL, GOOD, encoded_parts, labelled_set
from models import artifact
from models.metrics.bootstrap import Interval, interval
from models.metrics.pixel_evidence import PixelEvidence, pixel_intervals
from models.metrics.ranking import auroc, average_precision, f1_max
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import content_size
from pipeline.in_process import score_encoded
from pipeline.scoring.scorer import open_scorer
from pipeline.storage.copies import local_copy

STATISTICS: dict[str, Callable[[NDArray[np.float32], NDArray[np.bool_]], float]] = {
    "image_auroc": auroc,
    "average_precision": average_precision,
    "f1_max": f1_max,
}
COLUMNS = {"image_auroc": "image AUROC", "average_precision": "AP", "f1_max": "F1-max"} | {
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
}


class EvaluateSettings(BaseModel):
    """Settings of `flowscore evaluate`. draws: of the bootstrap. pixel_draws: of the pixel figures' bootstrap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    input: Path
    json_file: Path | None = None
    groups: Path | None = None
    device: str = "auto"
    cache_dir: Path = Path("~/.cache/flowscore")
    draws: int = Field(1000, ge=100)
    pixel_draws: int = Field(200, ge=100)
    seed: int = 0
    max_unreadable_share: float = Field(0.05, ge=0, le=1)


@dataclass(frozen=True)
class ImageScore:
    """One image of the labelled set: its path below the input, folder name, raw score and group."""

    path: str
    defect_type: str
    score: float
    group: str


def evaluate(settings: EvaluateSettings) -> dict[str, Any]:
    """Score every image below test/, compare with the folder names and with ground_truth/, and return the figures."""
    root = settings.input
    labelled = labelled_set(root)
    groups = read_groups(settings.groups)
    truth = GroundTruth(labelled)
    directory = local_copy(settings.model, settings.cache_dir.expanduser())
    scorer = open_scorer(directory, settings.device)
    opened = artifact.read(directory)
    size = opened.config.input
    decode = DecodeConfig(**size.model_dump(exclude={"overlap"}))
    scored: list[ImageScore] = []
    evidence = {name: PixelEvidence() for name in labelled.types}
    unreadable: Counter[str] = Counter()
    with Progress("evaluating", total=len(labelled.images)) as progress:
        for images, encoded in encoded_parts(labelled):
            decoded, result = score_encoded(encoded, decode, scorer)
            finite = scorer.finite(result)
            rows = decoded.drop_columns(["captured_at"]).to_pylist()
            for i, (image, row) in enumerate(zip(images, rows, strict=True)):
                if row["error"] is not None or not finite[i]:
                    unreadable[row["error"] or "score_not_finite"] += 1
                    continue
                path = f"test/{image.key}"
                group = group_of(groups, path, settings.groups)
                scored.append(ImageScore(path, image.defect_type, float(result.score[i]), group))
                mask = truth.mask(image, (row["height"], row["width"]))
                if mask is not None:
                    shown = _at_mask(result.anomaly_map[i], mask.shape, row, decode)
                    evidence[image.defect_type].add(shown, mask, group)
            progress.update(done=len(scored), errors=sum(unreadable.values()))
    check_unreadable(unreadable, len(scored) + sum(unreadable.values()), settings.max_unreadable_share, str(root))
    counts = Counter(image.defect_type for image in scored)
    check_both_scored(counts, str(root))
    return {
        "model": opened.config.name,
        "model_digest": opened.model_digest,
        "input": str(root),
        "images": dict(sorted(counts.items())),
        "unreadable": dict(unreadable),
        "defects_without_mask": truth.counts.without_mask,
        "masks": asdict(truth.counts),
        "notes": [*labelled.lines(), *truth.counts.lines()],
        "interval": "95 %, bootstrap by " + (f"group of {settings.groups.name}" if settings.groups else "image"),
        "pixels": "maps enlarged bilinearly to the masks' own size; everything but a mask's background is defect, of grey "
        "edges what is at least 128; AUPRO to a rate of 0.3",
        "f1_max": "the best threshold in hindsight: an oracle's figure, not an operating point",
        "figures": {name: _figures(name, scored, evidence, settings) for name in [ALL, *labelled.types] if name != GOOD},
        "scores": [asdict(image) for image in scored],
    }


def _at_mask(
    anomaly_map: NDArray[np.float32], shape: tuple[int, ...], row: dict[str, Any], decode: DecodeConfig
) -> NDArray[np.float32]:
    """(h, w) map at the mask's (H, W). Of a padded image, the part of the map that shows the image."""
    cells = torch.from_numpy(np.ascontiguousarray(anomaly_map))[None, None]  # (1, 1, h, w)
    if decode.resize == "pad":
        width, height = content_size((row["width"], row["height"]), decode)
        top, left = (decode.height - height) // 2, (decode.width - width) // 2
        cells = F.interpolate(cells, size=(decode.height, decode.width), mode="bilinear", align_corners=False)
        cells = cells[:, :, top : top + height, left : left + width]
    return F.interpolate(cells, size=shape, mode="bilinear", align_corners=False)[0, 0].numpy()


def _figures(
    name: str, scored: list[ImageScore], evidence: dict[str, PixelEvidence], settings: EvaluateSettings
) -> dict[str, dict[str, float | None]]:
    """Every figure with its interval, for one defect type against all good images or for all images."""
    chosen = [image for image in scored if name == ALL or image.defect_type in (GOOD, name)]
    scores = np.array([image.score for image in chosen], np.float32)
    labels = np.array([image.defect_type != GOOD for image in chosen])

    def of_images(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([statistic(scores[drawn], labels[drawn]) for statistic in STATISTICS.values()])

    found = interval(of_images, [image.group for image in chosen], settings.draws, settings.seed)
    figures = {key: Interval(*(float(part[i]) for part in found)) for i, key in enumerate(STATISTICS)}
    parts = [part for kind, part in evidence.items() if part.images and (name == ALL or kind in (GOOD, name))]
    if parts:
        figures |= pixel_intervals(parts, settings.pixel_draws, settings.seed)
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
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(
        [*rows, "", f"Percent; {report['interval']}. F1-max is {report['f1_max']}.", f"Pixels: {report['pixels']}."]
    )


def main(
    model: Annotated[str | None, typer.Option(help="the model: a folder or s3://bucket/prefix")] = None,
    input: Annotated[Path | None, typer.Option(help="folder with test/good, test/<defect type>, ground_truth")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="where all figures and scores go")] = None,
    groups: Annotated[Path | None, typer.Option(help="CSV path,group: intervals by piece, not by image")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with these and further settings")] = None,
) -> None:
    """Measure a model on labelled images in the MVTec layout."""
    flags = {"model": model, "input": input, "json_file": json_file, "groups": groups, "device": device}
    settings = load(EvaluateSettings, config, **flags)
    report = evaluate(settings)
    if settings.json_file is not None:
        settings.json_file.parent.mkdir(parents=True, exist_ok=True)
        settings.json_file.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(table(report))
    for note in report["notes"]:
        print(note)
    if report["unreadable"]:
        print("not scored: " + ", ".join(f"{count} {reason}" for reason, count in report["unreadable"].items()))


if __name__ == "__main__":
    run(main)
