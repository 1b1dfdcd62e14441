"""A calibration's colour scale is found wherever its file lies, and a file that cannot be used is one error."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.artifact import ArtifactError
from models.calibration.example import calibration
from models.calibration.files import JSON, encoded
from models.maps.map_scale import MapScale
from pipeline.report.calibrated_scale import calibrated_scale
from pipeline.report.pictures import ColourScale
from pipeline.storage.store import open_store

DIGEST = "ab" * 32


@pytest.mark.parametrize("where", ["local", "s3"])
def test_the_file_alone_is_enough(where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    uri = str(tmp_path / "kept") if where == "local" else request.getfixturevalue("s3_bucket") + "/kept"
    assert calibrated_scale(uri, DIGEST) is None
    made = calibration(pieces=60)
    open_store(uri).put(JSON, encoded(made)[JSON])
    assert calibrated_scale(uri, DIGEST) is None  # of an earlier version
    open_store(uri).put(JSON, encoded(replace(made, map_scale=MapScale(0.25, 4.0)))[JSON])
    assert calibrated_scale(uri, DIGEST) == ColourScale(0.25, 4.0, "50 to 99.9 % of good images")


def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / JSON).write_bytes(encoded(calibration(pieces=60))[JSON])
    with pytest.raises(ArtifactError, match="must belong to this model"):
        calibrated_scale(str(tmp_path), "cd" * 32)
    (tmp_path / JSON).write_bytes(b"{}")
    with pytest.raises(ArtifactError, match=f"{tmp_path}/{JSON} must have format 1"):
        calibrated_scale(str(tmp_path), DIGEST)
