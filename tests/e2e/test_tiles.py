"""The commands score images of different sizes by tiles, and the tables hold the right rows for them."""

import io

import numpy as np
import pytest
from e2e_archives import command, encoded, picture, run_score, scores, write_files, write_tars
from PIL import Image

from pipeline.tables.query import open_tables

SIZES = {"a": (40, 30), "b": (64, 64), "c": (200, 90), "d": (150, 333), "e": (900, 700), "f": (65, 64)}


def png(seed, size):
    sink = io.BytesIO()
    picture(seed, size).save(sink, "PNG")
    return sink.getvalue()


def with_a_hole(size, box):
    image = np.array(picture(5, size))
    image[box[1] : box[3], box[0] : box[2]] = (
        np.random.default_rng(0).integers(0, 2, (box[3] - box[1], box[2] - box[0], 1)) * 255
    )
    sink = io.BytesIO()
    Image.fromarray(image).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def tile_model(tmp_path_factory):
    """A model trained on the tiles of images of several sizes."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "train.yaml").write_text("tiles_per_image: 6\nhyperparameters: {hidden: 8, whiten_dims: 16}\n")
    goods = {f"{i:03d}.png": png(7 * i + 1, ((64, 64), (130, 100))[i % 2]) for i in range(24)}
    write_files(folder / "good", goods)
    command(
        *("train", "--input", folder / "good", "--model-out", folder / "model", "--aspect", "tile", "--weights", "none"),
        *(
            "--image-size",
            "64",
            "--epochs",
            "1",
            "--calibration-share",
            "0",
            "--device",
            "cpu",
            "--name",
            "tiles",
            "--seed",
            "0",
        ),
        *("--config", folder / "train.yaml"),
    )
    return folder / "model"


@pytest.fixture(scope="module")
def images():
    hole = {"hole.png": with_a_hole((600, 500), (400, 300, 440, 340)), "whole.png": png(5, (600, 500))}
    return {f"{name}.png": png(i + 30, size) for i, (name, size) in enumerate(SIZES.items())} | hole


def test_images_of_any_size_are_scored_through_the_command(tile_model, images, ray_here, tmp_path):
    write_files(tmp_path / "in", images | {"broken.png": encoded(1)[:-400]})
    (tmp_path / "config.yaml").write_text("source: {unit_images: 4}\nresources: {threads: 1}\n")
    command(
        *("score", "--model", tile_model, "--input", tmp_path / "in", "--output", tmp_path / "out"),
        *("--config", tmp_path / "config.yaml", "--max-error-share", "0.2"),
    )
    rows = (
        open_tables(str(tmp_path / "out"))
        .connection.execute("select uri, width, height, score, map_width, map_height, octet_length(map), map from scores "
                            "join maps using (image_id)")
        .fetchall()
    )  # fmt: skip
    found = {uri.rsplit("/", 1)[1]: rest for uri, *rest in rows}
    assert found.keys() == images.keys()
    for name, (width, height, score, columns, lines, cells, _) in found.items():
        if name[0] in SIZES and len(name) == 5:
            assert (width, height) == SIZES[name[0]]
        assert np.isfinite(score) and cells == columns * lines and max(columns, lines) <= 256
        assert abs(columns / lines - width / height) < 0.7 * width / height
    assert found["hole.png"][2] > found["whole.png"][2]
    columns, lines, _, cells = found["hole.png"][3:]
    y, x = np.unravel_index(np.frombuffer(cells, np.uint8).reshape(lines, columns).argmax(), (lines, columns))
    assert abs((x + 0.5) / columns * 600 - 420) < 40 and abs((y + 0.5) / lines * 500 - 320) < 40
    errors = open_tables(str(tmp_path / "out")).connection.execute("select uri, stage from errors").fetchall()
    assert [(uri.rsplit("/", 1)[1], stage) for uri, stage in errors] == [("broken.png", "decode")]

    run_score(tile_model, write_tars(tmp_path / "tar", images, per_shard=3), tmp_path / "again")
    assert scores(tmp_path / "again", by="content_hash") == scores(tmp_path / "out", by="content_hash")
