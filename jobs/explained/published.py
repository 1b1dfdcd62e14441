"""Images named by --image-id: the tables say where each is stored, and the ledger keeps the model that scored it."""

import posixpath
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from jobs.command.errors import UsageError
from jobs.command.model_folder import model_folder
from jobs.command.progress import Progress
from jobs.explained.asked import Asked
from models import artifact
from models.artifact import CALIBRATION_FILES, Artifact, ArtifactError
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.report.calibrated_scale import calibrated_scale
from pipeline.report.pictures import ColourScale
from pipeline.report.published_images import PublishedImage, published_images
from pipeline.report.stored_images import Wanted, fetch
from pipeline.state.ledger import Ledger
from pipeline.storage.objects import Gone
from pipeline.tables.query import open_tables

OF_THE_RUN = ("white_level", "timezone", "max_image_pixels")  # of DecodeConfig; the rest follows from the model's input
RESTORE = "Copy that folder back from a backup, or explain the image's file with --model and --input."


class Published(NamedTuple):
    """Images of one version of a model. decode: as they were decoded then.  scale: of the calibration that judged them."""

    model: Artifact
    decode: DecodeConfig
    scale: ColourScale | None
    images: list[Asked]


def published(output: str, image_ids: Sequence[str], model: str | None, cache_dir: Path) -> Published:
    """The images with their content, and the ledger's copy of the model.

    Raises:
        UsageError: two versions of models scored them, or one that decoded or judged them in two ways; or the copy is damaged.
        NoTables, NoSuchImage, StorageError.
    """
    searching = Progress("looking for the images in the tables", total=None)
    with TemporaryDirectory(prefix="flowscore-explain-") as scratch, searching:
        connection = open_tables(output, Path(scratch)).connection
        found = published_images(connection, output, list(dict.fromkeys(image_ids)), model)
    for image in found:
        if image.others:
            print(f"{image.image_id} was also scored by {', '.join(image.others)}; {image.model} is explained (--model)")
    first = found[0]
    for image in found:
        _check_alike(first, image)
    ledger = Ledger(output, first.model)
    opened = _model(ledger, first.model_digest, cache_dir)
    decode = DecodeConfig.of(opened.config.input, **_of_the_run(first))
    return Published(opened, decode, _scale(ledger, first, opened), _stored(found))


def _check_alike(first: PublishedImage, image: PublishedImage) -> None:
    """One command explains one model, decodes in one way and has one scale of colours."""
    pair = first, image
    if image.model_digest != first.model_digest:
        rule, ways = "images that one version of a model scored", [f"by {one.model} {one.model_digest[:12]}" for one in pair]
    elif _of_the_run(image) != _of_the_run(first):
        rule, ways = "images that were decoded by the same settings", [f"with {_of_the_run(one)}" for one in pair]
    elif image.calibration_digest != first.calibration_digest:
        rule, ways = "images that one calibration judged", [f"by {(one.calibration_digest or 'none')[:12]}" for one in pair]
    else:
        return
    got = [f"{one.image_id} {way}" for one, way in zip(pair, ways, strict=True)]
    raise UsageError("--image-id", rule, got, "Explain them in two commands.")


def _of_the_run(image: PublishedImage) -> dict[str, Any]:
    """The settings of decoding that a run chooses."""
    run = DecodeConfig.model_validate(image.config["decode"])
    return {name: getattr(run, name) for name in OF_THE_RUN}


def _model(ledger: Ledger, digest: str, cache_dir: Path) -> Artifact:
    uri, rule = ledger.artifact_uri(digest), "complete and undamaged"
    try:
        opened = artifact.read(model_folder(uri, cache_dir))
    except (ArtifactError, Gone) as error:
        raise UsageError("the output's copy of the model", rule, uri, f"{error} {RESTORE}") from error
    if opened.model_digest != digest:
        fix = f"It holds the model {opened.model_digest[:12]}. {RESTORE}"
        raise UsageError("the output's copy of the model", rule, uri, fix)
    return opened


def _scale(ledger: Ledger, image: PublishedImage, opened: Artifact) -> ColourScale | None:
    if image.calibration_digest is None:
        return None
    folder = posixpath.dirname(ledger.calibration_key(image.calibration_digest, CALIBRATION_FILES[0]))
    return calibrated_scale(f"{ledger.store.uri}/{folder}", opened.model_digest)


def _stored(found: Sequence[PublishedImage]) -> list[Asked]:
    """The images' content; one that is gone or was changed has the reason instead."""
    by_source: dict[SourceConfig, list[PublishedImage]] = defaultdict(list)
    for image in found:
        by_source[SourceConfig.model_validate(image.config["source"])].append(image)
    content: dict[str, bytes | str] = {}
    with Progress("reading the images", total=None):
        for source, images in by_source.items():
            content |= fetch([Wanted(one.image_id, one.uri, one.member, one.content_hash) for one in images], source)
    asked = []
    for image in found:
        got, name = content[image.image_id], _name(image)
        encoded, fault = (None, f"{got} ({image.uri})") if isinstance(got, str) else (got, "")
        asked.append(Asked(name, encoded, fault, image.image_id, image.score))
    return asked


def _name(image: PublishedImage) -> str:
    """The path below the input, with the member of a shard."""
    key = image.uri.removeprefix(f"{image.config['source']['input_uri']}/")
    return key if image.member is None else f"{key}/{image.member}"
