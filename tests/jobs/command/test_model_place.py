"""A model is replaced only when that was asked for, and a place is tried before the training."""

import json
import os
from pathlib import Path

import pytest

from jobs.command.errors import UsageError
from jobs.command.model_place import check_model_place
from models import artifact
from pipeline.storage.objects import PROBE, BadUri, Denied
from pipeline.storage.store import open_store

MODEL = {artifact.DIGESTS: json.dumps({"model_digest": "0123456789abcdef"}), artifact.WEIGHTS: "weights"}
TAKEN = "--model-out must be a place without a model; got .* digest 0123456789ab, written 20.* UTC: replace it with --overwrite"


def fill(place: str, files: dict[str, str]) -> str:
    for name, text in files.items():
        open_store(place).put(name, text.encode())
    return place


def test_a_new_place_is_free_and_left_empty(place: str) -> None:
    found = check_model_place(f"{place}/model", overwrite=False)
    assert found == (None if place.startswith("s3://") else Path(place, "model"))
    assert not list(open_store(place).list())


def test_a_model_that_is_there_is_named_and_stays(place: str) -> None:
    fill(place, MODEL)
    with pytest.raises(UsageError, match=TAKEN):
        check_model_place(place, overwrite=False)
    check_model_place(place, overwrite=True)
    assert {entry.key for entry in open_store(place).list()} == set(MODEL)


def test_the_date_is_that_of_the_weights(tmp_path: Path) -> None:
    fill(str(tmp_path), MODEL)
    os.utime(tmp_path / artifact.WEIGHTS, (1_767_225_600, 1_767_225_600))  # a calibration is newer
    with pytest.raises(UsageError, match="written 2026-01-01 00:00 UTC"):
        check_model_place(str(tmp_path), overwrite=False)


def test_a_damaged_model_is_one_too(place: str) -> None:
    fill(place, {artifact.DIGESTS: "{"})
    with pytest.raises(UsageError, match="digest that cannot be read"):
        check_model_place(place, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_an_interrupted_upload_left_is_no_model(s3_bucket: str, overwrite: bool) -> None:
    whole = {artifact.CARD: "card", artifact.CONFIG: "{}", artifact.WEIGHTS: "weights"}
    for count in (1, 2, 3):
        place = fill(f"{s3_bucket}/{count}", dict(list(whole.items())[:count]) | {f"{PROBE}-0": ""})
        assert check_model_place(place, overwrite) is None


def test_a_model_of_another_program_is_not_taken_for_one(s3_bucket: str) -> None:
    """Other programs too write config.json and model.safetensors, and no card.md."""
    fill(s3_bucket, {artifact.CONFIG: "{}", artifact.WEIGHTS: "weights"})
    with pytest.raises(UsageError, match=r"without other objects; got .*config\.json"):
        check_model_place(s3_bucket, overwrite=True)


def test_a_calibration_that_cannot_be_deleted_is_said_before_the_training(s3_bucket: str, monkeypatch) -> None:
    def refuse(key: str) -> None:
        raise Denied(f"{key}: AccessDenied (403)")

    monkeypatch.setattr(open_store(s3_bucket), "delete", refuse)
    check_model_place(fill(s3_bucket, MODEL), overwrite=True)
    fill(s3_bucket, {artifact.CALIBRATION_FILES[0]: "{}"})
    with pytest.raises(UsageError, match=r"--model-out must be a place in which objects can be deleted; .* \(403\)\. Ask"):
        check_model_place(s3_bucket, overwrite=True)


def test_other_files_are_never_replaced(place: str) -> None:
    fill(place, {"notes.txt": "mine"})
    with pytest.raises(ValueError, match="without other objects; got .*notes.txt|it holds other files"):
        check_model_place(place, overwrite=True)


def test_a_bucket_that_is_not_there_is_found_before_the_training(s3: str) -> None:
    with pytest.raises(
        UsageError, match="--model-out must be a place that can be written; got 's3://no-such-bucket-here/m'.*no bucket"
    ):
        check_model_place("s3://no-such-bucket-here/m", overwrite=False)


@pytest.mark.parametrize("uri", ["http://host/m", "s3://", "file://relative"])
def test_an_address_that_names_no_place_is_one_sentence(uri: str) -> None:
    with pytest.raises((UsageError, BadUri), match="must be s3://bucket/prefix"):
        check_model_place(uri, overwrite=False)
