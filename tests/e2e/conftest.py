import os
from pathlib import Path

import pytest
import ray
from e2e_archives import command, encoded, write_files

from pipeline.stages import cluster


@pytest.fixture(scope="module")
def ray_here(s3):
    """A local Ray for the tests of one file that run a job in this process; its workers know the S3 server."""
    cluster.start_ray(None)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def assets():
    """The folder of the magnetic tiles and the backbone's weights."""
    root = os.environ.get("FLOWSCORE_ASSETS")
    if not root or not Path(root, "assets", "mtd").is_dir():
        pytest.fail(
            "FLOWSCORE_ASSETS must name the folder with assets/mtd; the Makefile sets it to ../shared when that is there"
        )
    return Path(root, "assets")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A small CS-Flow, trained through the command for one epoch on random backbone weights."""
    folder = tmp_path_factory.mktemp("model")
    write_files(folder / "good", {f"{i:03d}.png": encoded(7 * i + 1) for i in range(40)})
    command(
        *("train", "--detector", "csflow", "--input", folder / "good", "--model-out", folder / "model"),
        *("--backbone", "mobilenetv1_100", "--weights", "none", "--image-size", "64", "--epochs", "1"),
        *("--calibration-share", "0", "--selection-share", "0", "--device", "cpu", "--name", "tiny", "--seed", "0"),
    )
    return folder / "model"
