"""A calibration as two files of a model's folder: calibration.json, which people read, and calibration.safetensors.

Equal calibrations become equal bytes, and what is read equals what was written, bit by bit. Nothing is executed.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.artifact import CALIBRATION_FILES, Artifact, ArtifactError, file_text
from models.calibration.calibration import Calibration, GoodImages, Group, Selection
from models.calibration.document import FORMAT, LATER, Document, GroupPart, Pieces, ViewScale, arrays, plain
from models.maps.map_scale import MapScale
from models.verdicts.view_scales import ViewScales

JSON, ARRAYS = CALIBRATION_FILES


def encoded(calibration: Calibration) -> dict[str, bytes]:
    """The contents of the two files by name.

    >>> from models.calibration.example import calibration
    >>> sorted(encoded(calibration(pieces=60)))
    ['calibration.json', 'calibration.safetensors']
    """
    selection, images = calibration.selection, calibration.images
    views = selection.scales.views.tolist()
    document = Document(
        model_digest=calibration.model_digest,
        mode=calibration.mode,
        grid=calibration.grid,
        keys=calibration.keys,
        scales=[
            ViewScale(view=str(view), q50=float(q50), q90=float(q90)) for view, q50, q90 in zip(*selection.scales, strict=True)
        ],
        scales_from=selection.basis,
        groups=[
            GroupPart(
                by=dict(zip(calibration.keys.by, group.by, strict=False)),
                sets=[
                    Pieces(
                        images=dict(zip(views, counts, strict=True)),
                        pieces=len(group.scores(row)),
                        lots=len(np.unique(group.lot[group.number == row])),
                    )
                    for row, counts in enumerate(group.sets.tolist())
                ],
            )
            for group in calibration.groups
        ],
        lots=list(calibration.lots),
        values_seen={key: list(values) for key, values in zip(calibration.keys.by, calibration.seen, strict=True)},
        images=len(calibration.hashes),
        stored_images=list(calibration.stored),
        challenge=calibration.challenge,
        repeats=calibration.repeats,
        map_scale=calibration.map_scale,
    )
    columns: dict[str, NDArray[Any]] = {
        "images.score": images.score,
        "images.piece": images.piece,
        "images.view": images.view,
        "selection.score": selection.score,
        "selection.lot": selection.lot,
        "hashes": np.frombuffer(bytes.fromhex("".join(calibration.hashes)), np.uint8).reshape(-1, 16),  # (N, 16)
    }
    for at, group in enumerate(calibration.groups):
        columns |= {f"groups.{at}.score": group.score, f"groups.{at}.number": group.number}
        columns |= {f"groups.{at}.lot": group.lot, f"groups.{at}.piece": group.piece}
    kinds = arrays(len(calibration.groups))
    tensors = {name: np.ascontiguousarray(columns[name], kind.dtype) for name, kind in kinds.items()}
    # Named tuples as dictionaries: their fields have names in the file too.
    parts = ("mode", "grid", "keys", "stored_images", "challenge", *LATER)
    whole = document.model_dump(mode="json") | {name: plain(getattr(document, name)) for name in parts}
    text = file_text({name: value for name, value in whole.items() if value is not None or name not in LATER})
    return {JSON: text.encode(), ARRAYS: save(tensors)}


def read(opened: Artifact) -> Calibration | None:
    """The calibration in a model's folder, None if it has none.

    Raises:
        ArtifactError: the files are damaged, of a newer format, or of another model.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from models.config import ArtifactConfig
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read(Artifact(Path(folder), ArtifactConfig(name="tile"), model_digest="", calibration_digest=None))
    """
    if not any((opened.directory / name).exists() for name in CALIBRATION_FILES):
        return None
    try:
        content, packed = ((opened.directory / name).read_bytes() for name in CALIBRATION_FILES)
    except OSError as error:
        raise ArtifactError(f"{error.filename} must be there; {error.strerror}. Calibrate again.") from error
    where = str(opened.directory / JSON)
    document = _of_model(_document(content, where), opened.model_digest, where)
    return _calibration(document, _arrays(packed, document, str(opened.directory / ARRAYS)))


def decoded(files: dict[str, bytes]) -> Calibration:
    """The calibration of two files' contents.

    >>> from models.calibration.example import calibration
    >>> decoded(encoded(calibration(pieces=60))).groups[0].scores().shape
    (60,)
    """
    document = _document(files[JSON], JSON)
    return _calibration(document, _arrays(files[ARRAYS], document, ARRAYS))


def map_scale(content: bytes, model_digest: str, where: str) -> MapScale | None:
    """The colour scale that calibration.json says, without the arrays beside it; None if an earlier version wrote it.

    where: names the file in errors. Raises ArtifactError as `read`.

    >>> from dataclasses import replace
    >>> from models.calibration.example import calibration
    >>> made = replace(calibration(pieces=60), map_scale=MapScale(0.5, 2.0))
    >>> map_scale(encoded(made)[JSON], made.model_digest, "calibration.json")
    MapScale(low=0.5, high=2.0)
    """
    return _of_model(_document(content, where), model_digest, where).map_scale


def _of_model(document: Document, model_digest: str, where: str) -> Document:
    if document.model_digest != model_digest:
        raise ArtifactError(
            f"{where} must belong to this model, digest {model_digest[:12]}; it is of {document.model_digest[:12]}. "
            "Calibrate this model."
        )
    return document


def _document(content: bytes, where: str) -> Document:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{where} must be JSON; {error}. Calibrate again.") from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT or isinstance(version, bool):
        raise ArtifactError(
            f"{where} must have format {FORMAT}; got {version!r}. "
            "Use the version of flowscore that wrote it, or calibrate again."
        )
    try:
        return Document.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise ArtifactError(f"{where} must be a calibration; {field}: {fault['msg']}. Calibrate again.") from error


def _arrays(packed: bytes, document: Document, where: str) -> dict[str, NDArray[Any]]:
    """The arrays, checked: no other ones, of the kinds and lengths that they must have, numbers within what they count."""

    def refuse(what: str) -> ArtifactError:
        return ArtifactError(f"{where} must hold the arrays that {JSON} describes; {what}. Calibrate again.")

    try:
        found = load(packed)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise refuse(str(error) or type(error).__name__) from error
    kinds = arrays(len(document.groups))
    if found.keys() != kinds.keys():
        raise refuse(f"got {len(found)} arrays, and {len(kinds)} are described")
    lengths: dict[str, int] = {}
    for name, kind in kinds.items():
        array, width = found[name], () if kind.width is None else (kind.width,)
        if array.dtype != kind.dtype or array.ndim != 1 + len(width) or array.shape[1:] != width:
            raise refuse(f"{name} is {array.dtype} {array.shape}")
        if lengths.setdefault(kind.family, len(array)) != len(array):
            raise refuse(f"{name} has {len(array)} rows, and others beside it {lengths[kind.family]}")
        if kind.dtype == "float32" and not np.isfinite(array).all():
            raise refuse(f"{name} has numbers that are not finite")
    limits = {"images.view": len(document.scales), "selection.lot": len(found["selection.lot"])}
    # Every piece has an image: numbers beyond would take memory and minutes wherever pieces are counted.
    pieces = min(int(found["images.piece"].max(initial=-1)) + 1, len(found["images.piece"]))
    limits["images.piece"] = pieces
    for at, group in enumerate(document.groups):
        limits |= {f"groups.{at}.number": len(group.sets), f"groups.{at}.lot": len(document.lots)}
        limits[f"groups.{at}.piece"] = pieces
    for name, limit in limits.items():
        if len(found[name]) and not 0 <= int(found[name].min()) <= int(found[name].max()) < limit:
            raise refuse(f"{name} has numbers outside 0 to {limit - 1}")
    for at, group in enumerate(document.groups):
        score, number = found[f"groups.{at}.score"], found[f"groups.{at}.number"]
        if not len(score) or (np.diff(score) < 0).any():
            raise refuse(f"groups.{at}.score is not in rising order, or empty")
        if [part.pieces for part in group.sets] != np.bincount(number, minlength=len(group.sets)).tolist():
            raise refuse(f"groups.{at} has other numbers of pieces than {JSON} says")
    if len(found["hashes"]) != document.images:
        raise refuse(f"got {len(found['hashes'])} hashes of {document.images} images")
    return found


def _calibration(document: Document, found: dict[str, NDArray[Any]]) -> Calibration:
    views = [scale.view for scale in document.scales]
    scales = ViewScales(
        np.array(views, np.str_), np.array([s.q50 for s in document.scales]), np.array([s.q90 for s in document.scales])
    )
    by = document.keys.by
    groups = tuple(
        Group(
            tuple(part.by[key] for key in by if part.by),
            np.array([[one.images[view] for view in views] for one in part.sets], np.int64),
            found[f"groups.{at}.score"],
            *(found[f"groups.{at}.{column}"].astype(np.int64) for column in ("number", "lot", "piece")),
        )
        for at, part in enumerate(document.groups)
    )
    columns = (found[f"images.{column}"].astype(np.int64) for column in ("piece", "view"))
    return Calibration(
        document.model_digest,
        document.mode,
        document.grid,
        document.keys,
        Selection(scales, document.scales_from, found["selection.score"], found["selection.lot"].astype(np.int64)),
        groups,
        GoodImages(found["images.score"], *columns),
        tuple(document.lots),
        tuple(tuple(document.values_seen[key]) for key in by),
        tuple(row.tobytes().hex() for row in found["hashes"]),
        tuple(document.stored_images),
        document.challenge,
        document.repeats,
        document.map_scale,
    )
