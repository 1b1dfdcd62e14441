"""Train a model on good images only."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from jobs.command.config import ConfigError
from jobs.command.entry import run
from jobs.command.errors import ExitCode, UsageError
from jobs.command.model_place import check_model_place
from jobs.command.pattern_check import check_pattern
from jobs.command.places import check_folder, check_input, fix_of_nothing
from jobs.command.progress import Progress
from jobs.settings.training import AUTO, TrainSettings
from jobs.training.own_settings import training_of, wrong
from jobs.training.region import read_region
from models import artifact, registry
from models.backbones.config import BackboneConfig
from models.batch_size import default_batch_size
from models.config import ArtifactConfig, InputConfig
from models.roi.region import RegionOfInterest, inside
from pipeline.input.listing import open_input
from pipeline.scoring.device import Device, bf16_is_native, resolve_device

if TYPE_CHECKING:  # torch, timm and scipy take seconds to load, so a wrong setting is answered before
    from jobs.images.good import Exclusions, GoodSet
    from models.detector import Detector
    from models.features.store import ImageFeatures
    from models.fitting.groups import Groups

RESIZE: dict[str, Literal["squash", "pad", "tile"]] = {"squash": "squash", "keep": "pad", "tile": "tile"}


def main(settings: TrainSettings) -> None:
    """Train a model on good images only and write its artifact."""
    try:
        train(settings)
    except KeyboardInterrupt as error:  # typer would end the command without a word
        without = "without --workspace nothing is kept, so the same command begins anew"
        early = "this command has kept nothing new, so the same one begins where it began"
        lost = without if settings.workspace is None else early
        print("\n".join(getattr(error, "__notes__", [lost])), file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)


def train(settings: TrainSettings) -> artifact.Artifact:
    """Read, extract features once, split by group, fit, and write the artifact."""
    started = time.monotonic()
    place = check_model_place(settings.model_out, settings.overwrite)
    check_input("--input", settings.input)
    if settings.weights not in ("auto", "hub", "none") and not Path(settings.weights).is_file():
        raise UsageError("--weights", "auto, hub, none or a safetensors file", settings.weights, "Check the path.")
    roi = None if settings.roi is None else read_region(settings.roi)
    if settings.workspace is not None:
        check_folder("--workspace", settings.workspace)
        settings.workspace.mkdir(parents=True, exist_ok=True)
    _check_not_empty(settings)
    check_pattern(settings.source_of_input())
    device = resolve_device(settings.device)
    config = _artifact_config(settings, device, roi)
    _say_region(settings, config.input)
    with Progress("building the network", total=None):
        if settings.detector == AUTO:
            from jobs.training.auto import of_candidates

            config = of_candidates(config)
        detector = _build(config).to(device)

    # After what only needs torch and timm: scipy and the decoders take a second more.
    from jobs.images.good import Exclusions
    from jobs.training.fitting import fitted_to
    from jobs.training.forecast import compared, forecast, took
    from jobs.training.phases import READING, SAVING, Phases
    from jobs.training.saving import save
    from jobs.training.workspace import IMAGES, opened
    from models.detector import FitRun
    from models.features.store import ImageFeatures
    from models.fitting.groups import group_images, split

    run = FitRun(training_of(detector, settings.fit_settings()), settings.seed, device)
    exclusions = Exclusions(settings.exclude)
    auto, cuts = settings.detector == AUTO, settings.aspect == "tile"
    phases = Phases(settings.selection_share > 0, settings.light > 0, chooses=auto, cuts=cuts)
    with opened(settings, detector, run, device) as workspace, phases:
        with ImageFeatures(detector, workspace.folder, IMAGES, device, workspace.identity, print) as images:
            said = forecast(settings, images, run, workspace.folder)
            begun = time.monotonic()
            phases.begin(READING)
            read = _read(settings, images, exclusions)
            images.boxes = read.boxes(config.input)
            with Progress("grouping images", total=None):
                groups = group_images(read.group_keys, settings.group_key or "lot", read.thumbs)
            shares = (settings.calibration_share, settings.selection_share)
            calibration, selection, fitting = split(groups.names, shares, settings.seed)
            _say_split(settings, read, groups, calibration, selection, fitting)
            trained = fitted_to(settings, config, images, read, groups, fitting, selection, run, workspace, phases)
        phases.begin(SAVING)
        check_model_place(settings.model_out, settings.overwrite)  # another training may have ended first
        saved = save(settings, trained, read, groups, (calibration, selection, fitting), place)
    if said is not None:
        print(compared(said, took(time.monotonic() - begun, trained.stored_bytes, device)))
    print(
        f"model {saved.config.name}: {settings.model_out}, digest {saved.model_digest[:16]}, {time.monotonic() - started:.0f} s"
    )
    if settings.calibration_share == 0:
        print("not calibrated: no good images were kept for it (--calibration-share 0), so scores come without verdicts")
    return saved


def _check_not_empty(settings: TrainSettings) -> None:
    """Raises UsageError for an input that holds no object, which is known before the network is built."""
    store = open_input(settings.source_of_input())
    if next(iter(store.list()), None) is None:
        fix = fix_of_nothing(store, "Correct the place: it holds no images.")
        raise UsageError("--input", "a place with good images", settings.input, fix)


def _read(settings: TrainSettings, images: "ImageFeatures", exclusions: "Exclusions") -> "GoodSet":
    """Read the good images, unless an interrupted training has kept them with their features."""
    from jobs.images.good import GoodSet, read_good_images

    if images.about is not None:
        read = GoodSet.of_state(images.about)
        again = "held-out ones are scored whole in the end" if settings.aspect == "tile" else "none is read again"
        print(f"going on with the {len(read.hashes):,} images that were read before; {again}")
        return read
    limit, most = settings.max_unreadable_share, settings.tiles_per_image
    source = settings.source_of_input()
    read = read_good_images(source, images, exclusions, settings.group_key, limit, most, settings.seed)
    images.complete(read.state())
    return read


def _build(config: ArtifactConfig) -> "Detector":
    """The untrained detector. Raises UsageError or ConfigError for settings that cannot be built."""
    try:
        detector = registry.build(config)

        from pipeline.scoring.scorer import tiling

        tiling(detector.config)
        return detector
    except ValidationError as error:
        raise wrong("hyperparameters", error) from None
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _precision(wanted: Literal["auto", "float32", "bf16", "fp16"], device: Device) -> Literal["float32", "bf16", "fp16"]:
    """The precision of convolutions, printed in one line; `auto` is fp16 on a GPU, and bf16 on a CPU that multiplies it."""
    native = bf16_is_native(device)
    auto: Literal["float32", "bf16", "fp16"] = "fp16" if device == "cuda" else "bf16" if native else "float32"
    chosen = auto if wanted == "auto" else wanted
    slow = " (no native bf16 here)" if not native and chosen != "fp16" else ""
    slow = " (a CPU computes it in float32 and rounds)" if chosen == "fp16" and device == "cpu" else slow
    print(f"device {device}, convolutions in {chosen}{slow}, the rest in float32")
    return chosen


def _artifact_config(settings: TrainSettings, device: Device, roi: RegionOfInterest | None) -> ArtifactConfig:
    height, width = settings.image_size
    try:
        backbone = BackboneConfig(
            name=settings.backbone,
            taps=settings.taps,
            kwargs=settings.backbone_kwargs,
            weights=settings.weights,
            seed=settings.seed,
        )
    except ValidationError as error:  # timm does not know the name or an argument
        fault = error.errors()[0]
        raise ConfigError(str(fault.get("ctx", {}).get("error", fault["msg"]))) from None
    return ArtifactConfig(
        name=settings.name or settings.detector,
        detector=settings.detector,
        input=InputConfig(
            height=height,
            width=width,
            resize=RESIZE[settings.aspect],
            overlap=settings.overlap,
            scale=settings.scale,
            white_level=settings.white_level,
            roi=roi,
            shading_correction=settings.shading_correction,
        ),
        backbone=backbone,
        precision=_precision(settings.precision, device),
        batch_size=settings.batch_size or default_batch_size(device, height, width),
        hyperparameters=settings.hyperparameters,
    )


def _say_region(settings: TrainSettings, input: InputConfig) -> None:
    """Prints one line about the region of interest. Raises UsageError if nothing is left of it at the input's size."""
    if input.roi is None:
        return
    counted, roi = inside(input), input.roi
    if counted is None or not counted.any():
        fix = f"At {input.height} x {input.width} pixels nothing of it is left. Draw it larger, or raise --image-size."
        raise UsageError("--roi", "a mask image of areas that the model can see", str(settings.roi), fix)
    print(f"region of interest: {roi.share:.1%} of each image counts, by {settings.roi} ({roi.width} x {roi.height} pixels)")


def _say_split(
    settings: TrainSettings,
    read: "GoodSet",
    groups: "Groups",
    calibration: np.ndarray,
    selection: np.ndarray,
    fitting: np.ndarray,
) -> None:
    from jobs.images.few_images import of_fit, of_training
    from models.fitting.fit import figures_say_something

    print(f"{len(groups.names)} images in {groups.count()} groups, found by {groups.basis}")
    print(
        f"{len(fitting)} images to fit, {len(selection)} for selection, {len(calibration)} kept for calibration; "
        "no group on two sides"
    )
    key = settings.group_key
    to_calibrate, to_select = (len(set(read.pieces(each, key))) for each in (calibration, selection))
    told = figures_say_something(len(selection))
    expected = of_fit(len(fitting), settings.detector)
    for line in [*expected, *of_training(to_calibrate, to_select, settings.region_share, told, key)]:
        print(line)


if __name__ == "__main__":
    run(main)
