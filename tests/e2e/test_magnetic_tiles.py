"""The 583 test images of the magnetic tiles get the same scores whatever form and place they are read from."""

import shutil

import pytest
from e2e_archives import command, run_score, scores, settings, upload, write_parquet, write_tars

from jobs.score import prepare
from pipeline.decode.unit import decode_unit
from pipeline.in_process import encoded_units
from pipeline.scoring.scorer import open_scorer
from pipeline.storage.store import open_store
from pipeline.tables.query import open_tables

pytestmark = pytest.mark.slow

IMAGES = 583


@pytest.fixture(scope="module")
def tiles_model(assets, tmp_path_factory):
    """CS-Flow on the MobileNetV1 file, after one epoch on 64 good tiles: real features, and a flow that is not an identity."""
    folder = tmp_path_factory.mktemp("tiles-model")
    for path in sorted((assets / "mtd" / "train" / "good").iterdir())[:64]:
        shutil.copy(path, folder / path.name)
    command(
        *("train", "--detector", "csflow", "--input", folder, "--model-out", folder.parent / "tiles"),
        *("--weights", assets / "weights" / "mobilenetv1_100_imagenet.safetensors", "--epochs", "1"),
        *("--calibration-share", "0", "--name", "tiles", "--seed", "0"),
    )
    return folder.parent / "tiles"


@pytest.fixture(scope="module")
def alone(assets, tiles_model, tmp_path_factory):
    """content hash -> score and the images by name, in one process without Ray."""
    folder = tmp_path_factory.mktemp("alone")
    prepared = prepare(settings(tiles_model, assets / "mtd" / "test", folder))
    scoring = prepared.scoring(prepared.trained.digest, prepared.trained.config)
    scorer = open_scorer(tiles_model, "cpu", threads=1)
    found, images = {}, {}
    for table in encoded_units(scoring.source):
        scored = scorer(decode_unit(table, scoring.decode).pixels).score.tolist()
        found |= dict(zip(table["content_hash"].to_pylist(), scored, strict=True))
        images |= dict(zip(table["key"].to_pylist(), table["encoded"].to_pylist(), strict=True))
    assert len(images) == IMAGES
    return found, images


@pytest.mark.parametrize("where", ["local", "s3"])
@pytest.mark.parametrize("form", ["files", "tar", "parquet"])
def test_scores_do_not_depend_on_form_or_place(form, where, alone, assets, tiles_model, ray_here, tmp_path, request):
    found, images = alone
    source = assets / "mtd" / "test"
    if form != "files":
        source = {"tar": write_tars, "parquet": write_parquet}[form](tmp_path / "in", images, per_shard=100)
    output = tmp_path / "out"
    if where == "s3":
        uri = request.getfixturevalue("s3_bucket")
        upload(open_store(f"{uri}/in"), source)
        source, output = f"{uri}/in", f"{uri}/out"
    more = {"unit_images": 64} | ({"id_column": "name"} if form == "parquet" else {})
    run_score(tiles_model, source, output, source=more)
    assert {content: score for content, (score, *_) in scores(output, by="content_hash").items()} == found
    names = open_tables(str(output)).connection.execute("select coalesce(member, uri) from scores").fetchall()
    assert len(names) == IMAGES
    assert {"/".join(name.split("/")[-2:]) for (name,) in names} == set(images)
