"""Explains the images that were asked for, and writes their pictures, the page and explanations.json."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jobs.command.errors import UsageError
from jobs.command.model_folder import model_folder
from jobs.command.progress import Progress, duration
from jobs.command.result_folder import result_folder
from jobs.explained.asked import Asked
from jobs.explained.given import RULE, given_images
from jobs.explained.published import Published, published
from jobs.pages.explanation_page import page
from jobs.pages.explanation_pictures import ExplanationPictures
from jobs.settings.explaining import GOODS, ExplainSettings
from models import artifact
from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.image import decode_image
from pipeline.report.calibrated_scale import calibrated_scale
from pipeline.scoring.device import resolve_device

JSON_NAME, PAGE_NAME = "explanations.json", "explanations.html"
DELETION_AUC = "area under the normalised score while the most relevant places go first; lower is more faithful"
TRUST = (
    "random orders are the map at other places; better: below every one of them; unclear: below their mean; worse: not below it"
)


def explain(settings: ExplainSettings) -> dict[str, Any]:
    """Explain every image, print a line for each map, write pictures, page and JSON, and return the JSON's content.

    If the model scores by tiles, an image's worst tile is explained, since the image's score is that tile's.
    """
    started, cache_dir = time.monotonic(), settings.cache_dir.expanduser()
    if settings.image_id:
        asked = published(settings.output, settings.image_id, settings.model, cache_dir)
    else:
        asked = _of_the_input(settings, cache_dir)
    good_images = given_images("--good", settings.good, GOODS) if settings.good else []
    unreadable: dict[str, str] = {}
    rule = "of images that are stored as they were scored" if settings.image_id else RULE + " that can be read"
    images = _decoded("--image-id" if settings.image_id else "--input", rule, asked.images, asked.decode, unreadable)
    good = list(_decoded("--good", RULE + " that can be read", good_images, asked.decode, {})) if good_images else []
    device = resolve_device(settings.device)

    from jobs.explained.work import ANOMALY_MAP, Work  # torch and captum take seconds to load: whatever is wrong is said before

    with Progress("loading the model", total=None):
        work = Work(asked.model, settings.method, settings.layer, settings.deletion, device, [pixels for _, pixels in good])
    print(work.cost, flush=True)
    with TemporaryDirectory(prefix="flowscore-explain-") as scratch:
        pictures = ExplanationPictures(Path(scratch), {} if asked.scale is None else {ANOMALY_MAP: asked.scale})
        explained = [work.image(each, pixels, pictures, settings.place) for each, pixels in images]
        spent = f"{duration(time.monotonic() - started)}, of which the deletion tests took {duration(work.tested_s)}"
        with Progress("drawing and writing the pictures", total=None), result_folder(settings.place) as folder:
            scales = pictures.draw(folder)
            report = {
                "model": asked.model.config.name,
                "model_digest": asked.model.model_digest,
                "layer": work.layer,
                "not_defined": work.not_defined,
                "deletion": {"meaning": DELETION_AUC, "trust": TRUST, **settings.deletion.model_dump(mode="json")},
                "colours": {method: asdict(scale) for method, scale in scales.items()},
                "unreadable": unreadable,
                "images": [each.as_json() for each in explained],
            }
            document = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
            (folder / JSON_NAME).write_text(document, encoding="utf-8")
            cost = f"This took {spent}: {work.cost}."
            html = page(asked.model.config.name, asked.model.model_digest, cost, unreadable, work.shown)
            (folder / PAGE_NAME).write_text(html, encoding="utf-8")
    for method, scale in scales.items():
        print(f"{method}: one colour scale for all pictures, {scale.low:.3g} to {scale.high:.3g}, {scale.basis}")
    print(
        f"{len(explained)} image{'s' if len(explained) != 1 else ''} in {spent}; page: {settings.place.rstrip('/')}/{PAGE_NAME}"
    )
    return report


def _of_the_input(settings: ExplainSettings, cache_dir: Path) -> Published:
    assert settings.input is not None and settings.model is not None, "jobs/settings/explaining.py has checked"
    images = given_images("--input", settings.input, settings.limit + 1)
    if len(images) > settings.limit:
        print(f"more than {settings.limit} images; the first {settings.limit} by name are explained (--limit)")
    opened = artifact.read(model_folder(settings.model, cache_dir))
    scale = calibrated_scale(os.fspath(opened.directory), opened.model_digest)
    return Published(opened, DecodeConfig.of(opened.config.input), scale, images[: settings.limit])


def _decoded(
    flag: str, rule: str, images: Sequence[Asked], decode: DecodeConfig, unreadable: dict[str, str]
) -> Iterator[tuple[Asked, np.ndarray]]:
    """Each image with its pixels, (H, W, 3) uint8: of the input's size, or the image's own if it is scored by tiles.

    The first is decoded at once. Args: unreadable: gets the fault of each that cannot be read.
    """
    decoded = _readable(images, decode, unreadable)
    first = next(decoded, None)
    if first is None:
        name, why = next(iter(unreadable.items()))
        raise UsageError(flag, rule, name, f"The first fault: {why}.")
    return chain([first], decoded)


def _readable(images: Sequence[Asked], decode: DecodeConfig, unreadable: dict[str, str]) -> Iterator[tuple[Asked, np.ndarray]]:
    for image in images:
        fault = image.fault
        if image.encoded is not None:
            try:
                yield image, np.array(decode_image(image.encoded, decode).pixels)
                continue
            except Undecodable as error:
                fault = str(error)
        unreadable[image.name] = fault
        print(f"{image.name} left out: {fault}")
