"""A trained model in this process, for use from Python: takes images, returns scores and explanations."""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from models import artifact
from models.explain.methods import Method
from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.decode.image import decode_image
from pipeline.in_process import encoded_units, score_encoded
from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows, Fault
from pipeline.scoring.device import resolve_device
from pipeline.scoring.scorer import open_scorer
from pipeline.scoring.worst_tile import Tile, Tiles
from pipeline.storage.copies import local_copy

CACHE = Path("~/.cache/flowscore")

OneImage = str | os.PathLike[str] | NDArray[np.uint8]
"""The path of a file, or pixels: uint8, (H, W, 3) RGB or (H, W) grey, of any size."""

Images = OneImage | Sequence[OneImage]
"""One image, a list of them, or everything below one folder or s3://bucket/prefix."""


class ImagesError(ValueError):
    """The argument is not an image, or holds none."""


class ImageScores(NamedTuple):
    """Results of N images in their order; for a folder, in the order of names.

    name: path, place in the list, or path below the folder.  score: (N,) float32, raw, higher is more anomalous; NaN where
    there is an error.  anomaly_map: N of (h, w) float32, empty where there is an error.  error: why an image has no score.
    """

    name: list[str]
    score: NDArray[np.float32]
    anomaly_map: list[NDArray[np.float32]]
    error: list[str | None]


class Explanation(NamedTuple):
    """Where an image's score comes from.

    relevance: (H, W) float32 of the model's input size, higher is more relevant; empty where there is an error.
    left, top: corner of the tile that it shows, px, when the model scores by tiles, else 0.  error: why there is none.
    """

    name: str
    relevance: NDArray[np.float32]
    left: int
    top: int
    error: str | None


class Model:
    """A trained model, loaded once. Files on the same device get the scores of `flowscore score`, bit for bit.

    An array is scored as a PNG of its pixels: a large JPEG, which is reduced while decoding, scores a little differently.
    """

    def __init__(self, uri: str | os.PathLike[str], device: str = "auto") -> None:
        """Args:
        uri: folder or s3:// of the model.  device: auto, cpu or cuda.
        Raises:
            NoSuchDevice.  ArtifactError: the model is missing or damaged.  StorageError: storage refuses it.
        """
        self.device = resolve_device(device)
        self.directory = local_copy(uri, CACHE.expanduser())
        self.artifact = artifact.read(self.directory)
        self._scorer = open_scorer(self.directory, self.device)
        self._decode = DecodeConfig.of(self.artifact.config.input)

    def score(self, images: Images) -> ImageScores:
        """Scores and anomaly maps; an unreadable image has an error instead of a score."""
        found = ImageScores([], np.zeros(0, np.float32), [], [])
        scores: list[float] = []
        for unit in encoded_images(images):
            decoded, result = score_encoded(unit, self._decode, self._scorer)
            finite = self._scorer.finite(result)
            messages = zip(decoded["message"].to_pylist(), finite, strict=True)
            errors = [text or (None if good else "the score is not a finite number") for text, good in messages]
            found.name.extend(decoded["key"].to_pylist())
            found.error.extend(errors)
            scores += [np.nan if error else float(score) for error, score in zip(errors, result.score, strict=True)]
            none = np.zeros((0, 0), np.float32)
            found.anomaly_map.extend(none if e else cells for e, cells in zip(errors, result.anomaly_map, strict=True))
        return found._replace(score=np.array(scores, np.float32))

    def explain(self, images: Images, method: Method = "gradient", layer: str | None = None) -> list[Explanation]:
        """How much every pixel contributes to its image's score, computed in float32; see models/explain/explainer.py.

        Raises ExplanationError: the method or the layer is not defined for this model.
        """
        from models.explain.explainer import Explainer  # captum takes seconds to import, and scoring does not need it

        detector = artifact.load(artifact.in_float32(self.artifact), self.device)
        explainer, tiles, found = Explainer(detector, layer), Tiles(detector, self.device), []
        for unit in encoded_images(images):
            for name, content, message in zip(*(unit[c].to_pylist() for c in ("key", "encoded", "message")), strict=True):
                tile, fault = (None, message) if content is None else self._worst_tile(content, tiles)
                if tile is None:
                    found.append(Explanation(name, np.zeros((0, 0), np.float32), 0, 0, fault))
                    continue
                relevance = explainer(torch.from_numpy(tile.pixels)[None].to(self.device), method)[0]
                found.append(Explanation(name, relevance.cpu().numpy(), tile.left, tile.top, None))
        return found

    def _worst_tile(self, content: bytes, tiles: Tiles) -> tuple[Tile | None, str | None]:
        """The explanation of one image's score, or why there is none."""
        try:
            return tiles.worst(np.array(decode_image(content, self._decode).pixels)), None
        except Undecodable as fault:
            return None, str(fault)


def encoded_images(images: Images) -> Iterator[pa.Table]:
    """Rows of schemas/encoded.py, in units. Pixels become PNG files in memory, so that arrays and files take the same path.

    Raises ImagesError.
    """
    given = as_list(images)
    if given is None:
        empty = True
        for unit in encoded_units(SourceConfig(input_uri=os.fspath(cast(str, images)))):
            empty = False
            yield unit
        if empty:
            raise ImagesError(f"images must hold at least one image; got {images}, which holds none. Check the path.")
        return
    rows = EncodedRows("memory://images", SourceConfig(input_uri="memory://images"))
    for number, image in enumerate(given):
        name, content = encoded_image(image, number)
        if rows.full_before(content):
            yield rows.table()
        rows.add(name, content, None if isinstance(content, Fault) else len(content))
    if rows.count:
        yield rows.table()


def as_list(images: Images) -> list[OneImage] | None:
    """The images one by one; None for a folder or a prefix in object storage."""
    if isinstance(images, np.ndarray):
        return [images]
    if isinstance(images, str | os.PathLike):
        return [images] if Path(images).is_file() else None
    if not isinstance(images, Sequence):
        raise ImagesError(
            f"images must be a folder, a file, a uint8 array or a list of files and arrays; got {type(images).__name__}. "
            "Turn it into one of them."
        )
    return list(images)


def encoded_image(image: OneImage, number: int) -> tuple[str, bytes | Fault]:
    """Name and encoded bytes of an image, or the fault of an unreadable file. Raises ImagesError."""
    if isinstance(image, str | os.PathLike):
        name = os.fspath(image)
        try:
            return name, Path(image).read_bytes()
        except OSError as error:
            return name, Fault("gone", f"the file {name} cannot be read: {error.strerror}")
    pixels = np.asarray(image)
    shape = pixels.shape
    if pixels.dtype != np.uint8 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3) or not pixels.size:
        raise ImagesError(
            f"an image must be a path or a uint8 array of shape (H, W, 3) or (H, W); got {type(image).__name__} of "
            f"{pixels.dtype} {shape}, number {number}. Convert it."
        )
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=0)
    return str(number), out.getvalue()
