"""Images of --image-id: found through the tables, with the output's own copy of the model."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_run import ARTIFACT, MODEL, publish, score_without_model
from PIL import Image

from jobs.command.errors import UsageError
from jobs.explained import published as module
from jobs.explained.published import Published, published
from models import artifact, registry
from models.config import ArtifactConfig, InputConfig
from pipeline.report.published_images import NoSuchImage, PublishedImage
from pipeline.state.entries import Promotion, add_entry, read_head
from pipeline.state.ledger import Ledger
from pipeline.storage.copies import upload_directory
from pipeline.storage.store import open_store
from pipeline.tables.query import NoTables, open_tables


def png(seed: int) -> bytes:
    sink = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was never fitted: what is tested here is how it is found."""
    size, few = InputConfig(height=64, width=64), {"bank_size": 8}
    config = ArtifactConfig(name=MODEL, detector="patchsvdd", input=size, batch_size=1, hyperparameters=few)
    folder = tmp_path_factory.mktemp("model") / "m"
    artifact.save(folder, config, registry.build(config), card="# tile")
    return folder


@pytest.fixture
def scored(tmp_path: Path, model: Path) -> str:
    return score(str(tmp_path), model)


def score(place: str, model: Path) -> str:
    """An output with the scores of a loose image, one of a tar, one of a Parquet file, and one that cannot be read."""
    store = open_store(f"{place}/in")
    store.put("a/loose.png", png(0))
    store.put("a/broken.png", b"no picture")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for i in (1, 2):
            header = tarfile.TarInfo(f"{i}.png")
            header.size = len(png(i))
            archive.addfile(header, io.BytesIO(png(i)))
    store.put("b/shard.tar", sink.getvalue())
    rows = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": pa.array([png(3), png(4)], pa.binary())}), rows)
    store.put("c/rows.parquet", rows.getvalue().to_pybytes())
    output, digest = f"{place}/out", artifact.read(model).model_digest
    publish(output, score_without_model(f"{place}/in", output, digest=digest))
    upload_directory(model, Ledger(output, MODEL).artifact_uri(digest))
    return output


def ids(output: str) -> dict[str, str]:
    """image_id by what the image is called."""
    rows = open_tables(output).connection.execute(
        "select coalesce(member, uri), image_id from scores union all select uri, image_id from errors"
    )
    return {name.rpartition("/")[2]: image_id for name, image_id in rows.fetchall()}


def asked(output: str, *image_ids: str, cache: Path, model: str | None = None) -> Published:
    return published(output, image_ids, model, cache)


def test_loose_images_and_members_of_shards_with_the_model_that_scored_them(place: str, model: Path, tmp_path: Path) -> None:
    scored = score(place, model)
    known = ids(scored)
    names = ["loose.png", "2.png", "0"]
    found = asked(scored, *(known[name] for name in names), known["2.png"], cache=tmp_path)
    assert found.model.model_digest == artifact.read(model).model_digest
    assert [(each.name, each.encoded) for each in found.images] == [
        ("a/loose.png", png(0)),
        ("b/shard.tar/2.png", png(2)),
        ("c/rows.parquet/0", png(3)),
    ]
    assert [each.image_id for each in found.images] == [known[name] for name in names]
    assert all(each.published is not None and each.fault == "" for each in found.images)
    assert (found.decode.height, found.decode.resize) == (64, "squash"), "the model's input"
    assert found.scale is None, "nothing is calibrated"


def test_an_image_that_is_gone_or_was_changed_says_so_and_the_others_stay(scored: str, tmp_path: Path) -> None:
    known, store = ids(scored), open_store(scored.replace("/out", "/in"))
    store.put("a/loose.png", png(99))
    store.delete("b/shard.tar")
    changed, gone, kept = asked(scored, known["loose.png"], known["1.png"], known["0"], cache=tmp_path).images
    assert changed.encoded is None and "was changed after it was scored (" in changed.fault
    assert gone.encoded is None and "no longer exists (" in gone.fault and gone.fault.endswith("b/shard.tar)")
    assert kept.encoded == png(3)


def test_ids_that_nothing_was_scored_under(scored: str, tmp_path: Path) -> None:
    with pytest.raises(
        NoSuchImage, match="image_id must be that of an image scored in .*/out; got 'f{32}'. Ask for it: flowsc"
    ):
        asked(scored, "f" * 32, cache=tmp_path)
    known = ids(scored)
    with pytest.raises(NoSuchImage, match="which could not be scored: not_an_image, .*broken.png.. Mend it"):
        asked(scored, known["loose.png"], known["broken.png"], cache=tmp_path)
    with pytest.raises(NoSuchImage, match="scored by model other in .*which was scored by tiles. Give one of these as --model"):
        asked(scored, known["loose.png"], cache=tmp_path, model="other")


def test_an_output_without_a_publication(tmp_path: Path) -> None:
    with pytest.raises(NoTables, match="output must hold tables"):
        asked(f"{tmp_path}/out", "f" * 32, cache=tmp_path)


def test_a_copy_of_the_model_that_is_damaged_or_gone(place: str, model: Path, tmp_path: Path) -> None:
    scored = score(place, model)
    ledger, image_id = Ledger(scored, MODEL), ids(scored)["loose.png"]
    prefix = ledger.artifact_prefix(artifact.read(model).model_digest)
    rule = "the output's copy of the model must be complete and undamaged; got "
    weights = ledger.store.get(f"{prefix}/model.safetensors")
    ledger.store.put(f"{prefix}/model.safetensors", weights[:-1] + b"?")
    with pytest.raises(UsageError, match=f"{rule}.* or explain the image's file with --model"):
        asked(scored, image_id, cache=tmp_path)
    for entry in list(ledger.store.list(prefix)):
        ledger.store.delete(entry.key)
    with pytest.raises(UsageError, match=rule):
        asked(scored, image_id, cache=tmp_path)


def test_two_versions_of_a_model_and_two_models(scored: str, model: Path, tmp_path: Path, capsys) -> None:
    """The newest row counts; a night of another version is explained apart."""
    store, ledger = open_store(scored.replace("/out", "/later")), Ledger(scored, MODEL)
    store.put("new.png", png(7))
    add_entry(ledger, read_head(ledger), Promotion(digest="e" * 64, artifact=ARTIFACT))
    publish(scored, score_without_model(scored.replace("/out", "/later"), scored, digest="e" * 64))
    known = ids(scored)
    with pytest.raises(UsageError, match="--image-id must be images that one version of a model scored; got .* two commands"):
        asked(scored, known["loose.png"], known["new.png"], cache=tmp_path)
    publish(scored, score_without_model(scored.replace("/out", "/in"), scored, model="other", digest="e" * 64), "other")
    found = asked(scored, known["loose.png"], cache=tmp_path, model=MODEL)
    assert found.model.model_digest == artifact.read(model).model_digest
    assert f"{known['loose.png']} was also scored by other; {MODEL} is explained" in capsys.readouterr().out
    with pytest.raises(UsageError, match="the output's copy of the model"):  # of `other`, which scored it last
        asked(scored, known["loose.png"], cache=tmp_path)


def test_two_runs_that_decoded_or_judged_otherwise(scored: str, model: Path, tmp_path: Path) -> None:
    """Of one digest: another white level gives other pixels, another calibration other colours."""
    store, digest = open_store(scored.replace("/out", "/later")), artifact.read(model).model_digest
    store.put("new.png", png(7))
    publish(scored, score_without_model(scored.replace("/out", "/later"), scored, digest=digest, white_level=4095))
    known = ids(scored)
    both = known["loose.png"], known["new.png"]
    alike = "--image-id must be images that were decoded by the same settings; got .*65535.*4095.* Explain them in two commands"
    with pytest.raises(UsageError, match=alike):
        asked(scored, *both, cache=tmp_path)
    assert [asked(scored, one, cache=tmp_path).decode.white_level for one in both] == [65535, 4095]


def test_two_calibrations_of_one_version(scored: str, tmp_path: Path, monkeypatch) -> None:
    known, read = ids(scored), module.published_images

    def judged_by_two(*arguments) -> list[PublishedImage]:
        return [replace(image, calibration_digest=letter * 64) for image, letter in zip(read(*arguments), "ab", strict=True)]

    monkeypatch.setattr(module, "published_images", judged_by_two)
    with pytest.raises(UsageError, match="--image-id must be images that one calibration judged; got .*by a{12}.*by b{12}"):
        asked(scored, known["loose.png"], known["2.png"], cache=tmp_path)
