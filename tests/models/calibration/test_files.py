"""A calibration is read back bit by bit, and damaged files are one error."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from models.artifact import Artifact, ArtifactError
from models.calibration.calibration import Agreement, Calibration, Challenge, Detected, Repeats, StoredImage
from models.calibration.example import calibration
from models.calibration.files import ARRAYS, JSON, decoded, encoded, map_scale, read
from models.config import ArtifactConfig
from models.maps.map_scale import MapScale


def same(one: Any, other: Any) -> bool:
    """Equal in type and, for arrays, bit by bit."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def whole() -> Calibration:
    """With everything that a calibration may have, and numbers that a careless format would change."""
    made = calibration(pieces=120, images=3)
    odd = np.array([-0.0, 1e-45, 0.1, np.float32(1) / 3], np.float32)
    score = made.images.score.copy()
    score[:4] = odd
    stored = (*made.stored, StoredImage("s3://bucket/ä b.tar", "x/ü.png", "0" * 32, "", 0.1 + 0.2))
    challenge = Challenge("s3://bad", (Detected("1 %", "0.5 mm", 29, 29),))
    repeats = Repeats("s3://again", 2, 4, 1, 3, (Agreement("1 %", 29, 30, 0.1 + 0.2, 0),))
    scale = MapScale(-0.1, 0.1 + 0.2)
    return replace(
        made, images=made.images._replace(score=score), stored=stored, challenge=challenge, repeats=repeats, map_scale=scale
    )


def test_a_calibration_is_read_back_bit_by_bit() -> None:
    made = whole()
    again = decoded(encoded(made))
    assert [field.name for field in fields(made) if not same(getattr(made, field.name), getattr(again, field.name))] == []
    assert encoded(again) == encoded(made)
    assert same(made.groups[1].calibrations()[0], again.groups[1].calibrations()[0])


def test_people_can_read_the_document() -> None:
    document = json.loads(encoded(calibration(pieces=60))[JSON])
    assert document["mode"] == {"label": "cpu-float32", "batch_size": 16, "scoring_version": 5}
    assert document["groups"][1] == {"by": {"line": "A"}, "sets": [{"images": {"": 1}, "lots": 9, "pieces": 54}]}
    assert document["values_seen"] == {"line": ["A", "B"]} and document["images"] == 60


def test_files_of_earlier_versions_are_read_and_come_out_as_they_were() -> None:
    """Fields that were added later are left out if there is nothing to say, so the digest stays too."""
    made = encoded(calibration(pieces=60))
    assert not {"repeats", "map_scale"} & json.loads(made[JSON]).keys()
    found = decoded(made)
    assert found.repeats is None and found.map_scale is None and encoded(found) == made
    assert map_scale(made[JSON], "ab" * 32, JSON) is None


def test_the_colour_scale_is_read_without_the_arrays() -> None:
    content = encoded(whole())[JSON]
    assert map_scale(content, "ab" * 32, "here") == MapScale(-0.1, 0.1 + 0.2)
    with pytest.raises(ArtifactError, match="here must belong to this model, digest cdcdcdcdcdcd; it is of abababababab"):
        map_scale(content, "cd" * 32, "here")
    with pytest.raises(ArtifactError, match="here must be JSON"):
        map_scale(content[:50], "ab" * 32, "here")


def folder(place: Path, files: dict[str, bytes]) -> Artifact:
    for name, content in files.items():
        (place / name).write_bytes(content)
    return Artifact(place, ArtifactConfig(name="tile"), "ab" * 32, None)


def test_a_folder_has_one_or_none(tmp_path: Path) -> None:
    assert read(folder(tmp_path, {})) is None
    found = read(folder(tmp_path, encoded(calibration(pieces=60))))
    assert found is not None and len(found.groups[0].score) == 60
    other = replace(folder(tmp_path, {}), model_digest="cd" * 32)
    with pytest.raises(ArtifactError, match="must belong to this model, digest cdcdcdcdcdcd; it is of abababababab"):
        read(other)
    (tmp_path / ARRAYS).unlink()
    with pytest.raises(ArtifactError, match=r"calibration.safetensors must be there"):
        read(folder(tmp_path, {}))


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets a place of the document."""

    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            document = document[int(name) if isinstance(document, list) else name]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return change


def challenge(**changed: Any) -> dict[str, Any]:
    """Of a document, at one rate."""
    return {"uri": "", "detected": [{"rate": "0.05", "size_class": "", "flagged": 1, "pieces": 2} | changed]}


def repeats(**changed: Any) -> dict[str, Any]:
    """Of a document, at one rate."""
    one = {"rate": "0.05", "agreeing": 1, "pieces": 2, "pairs": 0.5, "flagged": 1} | changed
    return {"uri": "", "fewest": 2, "most": 2, "once": 0, "incomplete": 0, "agreements": [one]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("format", 2), "must have format 1; got 2. Use the version of flowscore that wrote it, or calibrate again"),
        (at("format", True), "must have format 1"),
        (at("mode", None), "mode: Field required"),
        (at("extra", 1), "extra: Extra inputs are not permitted"),
        (at("mode.batch_size", "many"), "mode"),
        (at("scales.0.q90", -9.0), "a 90 % point above the median"),
        (at("scales.0.view", "top"), "images of every view that has a scale"),
        (at("groups.1.by", {}), "a value of every key of by"),
        (at("values_seen", {}), "values_seen must have"),
        (at("groups.0.sets.0.pieces", 5), "groups.0 has other numbers of pieces"),
        (at("images", 7), "60 hashes of 7 images"),
        (at("lots", ["lot 0"]), "groups.0.lot has numbers outside 0 to 0"),
        (at("groups", []), "groups"),
        (
            at("challenge", {"uri": "", "detected": [{"rate": "1", "size_class": "", "flagged": 3, "pieces": 2}]}),
            "no more pieces",
        ),
        (at("challenge", {"uri": "", "detected": [{"rate": "2", "size_class": "", "flagged": 1, "pieces": 2}]}), "above 0 and"),
        (at("repeats", repeats(pieces=10**30)), "at most 1,000,000,000"),
        (at("repeats", repeats(agreeing=3)), "challenge and repeats must count no more pieces than there are"),
        (at("repeats", repeats(flagged=-1)), "challenge and repeats must count no more pieces"),
        (at("repeats", repeats(pairs=1.5)), "challenge and repeats must count no more pieces"),
        (at("repeats", repeats(rate="0.05,0.1")), "rate must be above 0 and below 1"),
        (at("map_scale", {"low": 2.0, "high": 1.0}), "map_scale must be two finite numbers, low no larger than high"),
        (at("map_scale", {"low": 1.0}), "map_scale"),
    ],
)
def test_a_document_that_does_not_fit_is_one_error(change: Callable[[dict[str, Any]], None], message: str) -> None:
    files = encoded(calibration(pieces=60))
    document = json.loads(files[JSON])
    change(document)
    with pytest.raises(ArtifactError, match=message.replace("(", r"\(")) as failed:
        decoded(files | {JSON: json.dumps(document).encode()})
    assert "Calibrate again" in str(failed.value) or "calibrate again" in str(failed.value)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("groups.0.score", np.zeros(60, np.float64), "groups.0.score is float64"),
        ("groups.0.score", np.arange(60, 0, -1, dtype=np.float32), "not in rising order"),
        ("groups.0.score", np.full(60, np.nan, np.float32), "not finite"),
        ("groups.0.lot", np.zeros(59, np.int32), "has 60 rows|has 59 rows"),
        ("groups.0.piece", np.full(60, 60, np.int32), "groups.0.piece has numbers outside 0 to 59"),
        ("groups.0.number", np.full(60, -1, np.int32), "groups.0.number has numbers outside 0 to 0"),
        ("groups.0.number", np.full(60, 2**31 - 1, np.int32), "groups.0.number has numbers outside 0 to 0"),
        # Pieces are numbered without gaps: a large number would take memory and minutes.
        ("images.piece", np.full(60, 2**30, np.int32), "images.piece has numbers outside 0 to 59"),
        ("images.view", np.ones(60, np.int32), "images.view has numbers outside 0 to 0"),
        ("hashes", np.zeros((60, 8), np.uint8), "hashes is uint8"),
        ("more", np.zeros(1, np.float32), "15 arrays, and 14 are described"),
        ("images.score", None, "13 arrays, and 14 are described"),
    ],
)
def test_arrays_that_do_not_fit_are_one_error(name: str, array: np.ndarray | None, message: str) -> None:
    files = encoded(calibration(pieces=60))
    arrays = load(files[ARRAYS])
    if array is None:
        del arrays[name]
    else:
        arrays[name] = array
    with pytest.raises(ArtifactError, match=message):
        decoded(files | {ARRAYS: save(arrays)})


@pytest.mark.parametrize(
    ("name", "content"), [(JSON, b"{"), (JSON, b"\xff"), (JSON, b"[]"), (ARRAYS, b""), (ARRAYS, b"x" * 99)]
)
def test_bytes_that_are_no_such_file(name: str, content: bytes) -> None:
    with pytest.raises(ArtifactError, match=name):
        decoded(encoded(calibration(pieces=60)) | {name: content})
