"""`import flowscore`: its examples run as written, and its scores equal those of a scoring run."""

import doctest
import importlib.metadata
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from inline_engine import InlineEngine
from PIL import Image
from scipy import ndimage

import flowscore
from jobs.command.config import ConfigError, load
from jobs.command.errors import UsageError
from jobs.score import score
from jobs.settings.scoring import ScoreSettings
from models.artifact import ArtifactError
from models.explain.explainer import ExplanationError
from pipeline.session import ImagesError
from pipeline.stages import read as read_stage
from pipeline.tables.query import NoTables

ROOT = Path(__file__).parents[1]
SMALL = {"weights": "none", "backbone": "test_resnet", "image_size": 64, "device": "cpu", "precision": "float32"}


def surface(seed: int, spot: bool = False, size: tuple[int, int] = (72, 80)) -> np.ndarray:
    """(H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    pixels = ndimage.gaussian_filter(rng.standard_normal((*size, 3)), (2, 2, 0)) * 150 + 128
    if spot:
        pixels[20:40, 40:64] = 255
    return np.clip(pixels, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good/ and suspicious/ pictures, bad.png, a model, and the results of scoring them."""
    root = tmp_path_factory.mktemp("notebook")
    for name in ("good", "suspicious/3"):
        (root / name).mkdir(parents=True)
    for seed in range(12):
        Image.fromarray(surface(seed)).save(root / "good" / f"{seed}.png")
    for seed in range(3):
        Image.fromarray(surface(90 + seed, spot=seed == 0, size=(100 + seed, 90))).save(
            root / "suspicious" / "3" / f"{seed}.png"
        )
    Image.fromarray(surface(99, spot=True)).save(root / "bad.png")
    flowscore.fit("padim", root / "good", root / "model", **SMALL)
    settings = {"model": root / "model", "input": root / "suspicious", "output": root / "results"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_stage, "decode_in_child", read_stage.decode_in_child)  # the inline engine replaces it
        source = {"key_pattern": "{line}/{name}"}
        score(load(ScoreSettings, **{k: str(v) for k, v in settings.items()}, source=source, device="cpu"), InlineEngine())
    return root


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("name", ["flowscore", *flowscore.__all__])
def test_the_examples_run_as_they_stand(in_place: Path, name: str) -> None:
    entry = flowscore if name == "flowscore" else getattr(flowscore, name)
    known = {"flowscore": flowscore, **{each: getattr(flowscore, each) for each in flowscore.__all__}}
    example = doctest.DocTestParser().get_doctest(entry.__doc__ or "", known, name, None, 0)
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert found.attempted and not found.failed, "".join(said)


def test_scores_and_maps_are_those_of_a_scoring_run(in_place: Path) -> None:
    published = flowscore.tables("results")["scores"].order("uri").df()
    files = sorted((in_place / "suspicious" / "3").iterdir())
    model = flowscore.load("model", device="cpu")
    arrays = [np.asarray(Image.open(path)) for path in files]
    for images in ("suspicious", files, arrays, [str(files[0]), arrays[1], files[2]]):
        found = model.score(images)
        assert found.error == [None] * 3
        np.testing.assert_array_equal(found.score, published["score"].to_numpy(np.float32))
        assert [cells.shape for cells in found.anomaly_map] == [found.anomaly_map[0].shape] * 3
    assert model.score("suspicious").name == ["3/0.png", "3/1.png", "3/2.png"]
    assert model.score([str(files[1]), arrays[0]]).name == [str(files[1]), "1"]
    assert model.score(arrays[1]).score == published["score"][1] and model.score(files[1]).score == published["score"][1]


def test_grey_arrays_are_grey_pictures(in_place: Path) -> None:
    grey = surface(7)[:, :, 0]
    model = flowscore.load("model", device="cpu")
    np.testing.assert_array_equal(model.score(grey).score, model.score(np.stack([grey] * 3, axis=2)).score)


def test_more_images_than_a_unit_holds_keep_their_order(in_place: Path) -> None:
    arrays = [surface(seed % 5) for seed in range(131)]
    scores = flowscore.load("model", device="cpu").score(arrays)
    assert scores.name == [str(number) for number in range(131)]
    np.testing.assert_array_equal(scores.score, np.resize(scores.score[:5], 131))


def test_a_bad_image_is_an_error_and_the_others_are_scored(in_place: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    found = flowscore.score("model", [surface(1), tmp_path / "text.png", tmp_path / "gone.png", surface(1)])
    assert np.isnan(found.score).tolist() == [False, True, True, False] and found.score[0] == found.score[3]
    assert found.error[0] is None and "no JPEG, PNG, BMP or TIFF" in str(found.error[1]) and "gone.png" in str(found.error[2])
    assert [cells.size > 0 for cells in found.anomaly_map] == [True, False, False, True]
    explained = flowscore.explain("model", [surface(1), tmp_path / "text.png", tmp_path / "gone.png"])
    assert [bool(each.error) for each in explained] == [False, True, True]
    assert explained[0].relevance.shape == (64, 64) and explained[1].relevance.size == 0


def test_a_model_that_scores_by_tiles_explains_its_worst_tile(in_place: Path) -> None:
    model = flowscore.fit("padim", "good", **SMALL, aspect="tile", tiles_per_image=2)
    picture = surface(50, size=(64, 200))
    picture[10:50, 150:190] = 255
    (found,) = model.explain(picture)
    assert found.relevance.shape == (64, 64) and found.top == 0 and found.left + 64 > 150
    assert model.score([picture, surface(51, size=(100, 64))]).anomaly_map[0].shape[1] > 16


def test_a_list_is_fitted_to_as_the_folder_of_its_files(in_place: Path) -> None:
    files = sorted((in_place / "good").iterdir())
    listed = flowscore.fit("padim", [np.asarray(Image.open(files[0])), *files[1:]], **SMALL)
    trained = [model.artifact.config.trained for model in (listed, flowscore.load("model"))]
    assert trained[0]["images"] == trained[1]["images"] == 12
    kept = listed.directory
    assert kept.is_dir()
    del listed
    assert not kept.exists()


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (lambda: flowscore.load("nowhere"), ArtifactError, "model must be an artifact's directory"),
        (lambda: flowscore.load("model").score("nowhere"), ValueError, "nowhere"),
        (lambda: flowscore.load("model").score(5), ImagesError, "images must be a folder, a file, a uint8 array or a list"),
        (
            lambda: flowscore.load("model").score(np.zeros((4, 4))),
            ImagesError,
            r"uint8 array of shape .* got ndarray of float64",
        ),
        (lambda: flowscore.load("model").score(np.zeros((4, 4, 4), "u1")), ImagesError, "number 0"),
        (lambda: flowscore.explain("model", "bad.png", "cam"), ExplanationError, "method must suit the detector"),
        (
            lambda: flowscore.fit("padim", "good", epoch=3),
            UsageError,
            "key of the config must be one of .*Did you mean 'epochs'",
        ),
        (lambda: flowscore.fit("padim", "good", image_size="big"), ConfigError, "image_size must be N or HEIGHTxWIDTH"),
        (
            lambda: flowscore.fit("padim", "good", key_pattern="{lot}/{name}"),
            UsageError,
            "key_pattern must be a pattern of the paths",
        ),
        (lambda: flowscore.fit("padim", ["gone.png"]), ImagesError, "files that can be read"),
        (lambda: flowscore.tables("nowhere"), NoTables, "output must hold tables"),
        (lambda: flowscore.tables("results")["score"], NoTables, "table must be one of .*scores.*; got 'score'"),
    ],
)
def test_errors_are_sentences(in_place: Path, call, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        call()


def test_what_training_says_does_not_go_to_stdout(in_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flowscore.fit("padim", "good", **SMALL)
    shown = capsys.readouterr()
    assert not shown.out and "cannot set a threshold of the map" in shown.err


def test_the_import_loads_nothing_and_names_are_checked() -> None:
    code = "import sys, json; import flowscore; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {
        "torch",
        "timm",
        "ray",
        "duckdb",
        "deltalake",
        "pyarrow",
        "numpy",
        "pydantic",
        "typer",
        "jobs",
        "pipeline",
    }
    with pytest.raises(AttributeError, match="flowscore has explain, fit, load, score, tables; got 'train'"):
        _ = flowscore.train


def test_the_module_does_not_hide_the_distribution() -> None:
    assert importlib.metadata.version("flowscore") and not hasattr(flowscore, "__path__")


def test_the_file_stays_short() -> None:
    assert len(Path(flowscore.__file__).read_text(encoding="utf-8").splitlines()) < 40


def test_a_folder_of_shards_without_images_is_said_to_hold_none(in_place: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "notes.tar", "w") as shard:
        shard.addfile(tarfile.TarInfo("notes.txt"))
    with pytest.raises(ImagesError, match="holds none"):
        flowscore.load("model").score(tmp_path)
