"""What an ensemble adds to the contract of test_detectors.py: one pass, the members' own numbers, scales of good images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_detectors import InMemory, photographs
from tiny_model import BRIEF_MEMBERS, TINY_CASE

from models import artifact, registry
from models.backbones.config import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun, Work
from models.detectors.ensemble import Ensemble
from models.features.levels import Levels
from models.features.store import ImageFeatures, StoredRows
from models.fitting.checkpoint import Checkpoint
from models.roi.region import RegionOfInterest

SIZE = (64, 96)
GOODS = 12
CSFLOW, PADIM = BRIEF_MEMBERS["members"]
FASTFLOW = {"detector": "fastflow", "hyperparameters": {"steps": 1, "whiten_dims": 8}, "training": {"epochs": 1}}
CFLOW = {"detector": "cflow", "hyperparameters": {"steps": 1, "whiten_dims": 8}, "training": {"epochs": 1}}


def config(detector: str, backbone: str = "test_resnet", precision: Any = "float32", **fields: Any) -> ArtifactConfig:
    return ArtifactConfig(
        name="tiny",
        detector=detector,
        input=InputConfig(height=SIZE[0], width=SIZE[1], roi=fields.pop("roi", None)),
        backbone=BackboneConfig(name=backbone, weights="none", taps=fields.pop("taps", ())),
        precision=precision,
        batch_size=4,
        **fields,
    )


def ensemble(*members: dict[str, Any], **fields: Any) -> Ensemble:
    built = registry.build(config("ensemble", hyperparameters={"members": list(members)}, **fields))
    assert isinstance(built, Ensemble)
    return built


def alone(member: dict[str, Any], **fields: Any) -> Detector:
    return registry.build(config(member["detector"], hyperparameters=member.get("hyperparameters", {}), **fields))


def fit(detector: Detector, member: dict[str, Any] | None = None) -> Detector:
    run = FitRun(detector.Training(**(member or {}).get("training", {})))
    detector.fit(InMemory(detector, photographs(GOODS, SIZE, seed=1)), torch.arange(GOODS), run)
    return detector


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv1_100"])  # the latter's taps are counted and named
def test_a_member_reads_the_bits_that_it_would_read_alone(backbone: str, precision: str) -> None:
    images = photographs(4, SIZE)
    together = ensemble(CSFLOW, PADIM, FASTFLOW, backbone=backbone, precision=precision)
    maps = together.extract(images)
    expected = [
        x for each in (CSFLOW, PADIM, FASTFLOW) for x in alone(each, backbone=backbone, precision=precision).extract(images)
    ]
    assert len(maps) == len(expected) == len(together.levels)
    assert all(torch.equal(one, other) for one, other in zip(maps, expected, strict=True))


@pytest.mark.parametrize("roi", [None, True])
def test_an_image_passes_the_backbone_once(roi: bool | None) -> None:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[8:48, 16:80] = True
    region = RegionOfInterest.of(mask.numpy()) if roi else None
    together = ensemble(CSFLOW, PADIM, FASTFLOW, roi=region)
    passes: list[tuple[int, ...]] = []
    together.backbone.network.register_forward_pre_hook(lambda _, inputs: passes.append(tuple(inputs[0].shape[2:])))
    together.extract(photographs(2, SIZE))
    assert passes == [SIZE, (32, 48), (16, 24)]  # the scales of CS-Flow
    networks = {name.split(".network.")[0] for name in together.state_dict() if ".network." in name}
    assert networks == {"backbone"}


def test_threads_share_it() -> None:
    """As the lanes of a scorer do; what has passed in one is nothing to the others."""
    together = fit(ensemble(CSFLOW, PADIM)).freeze()
    batches = [photographs(4, SIZE, seed=seed) for seed in range(12)]
    alone_each = [together.score(batch).score for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: together.score(batch).score, batches * 4))
    assert all(torch.equal(one, other) for one, other in zip(found, alone_each * 4, strict=True))


def test_scores_and_maps_are_means_of_what_the_members_have_alone() -> None:
    together = fit(ensemble(CSFLOW, PADIM, FASTFLOW)).freeze()
    assert isinstance(together, Ensemble)
    images = photographs(5, SIZE)
    found, scores = together.score(images), []
    for number, each in enumerate((CSFLOW, PADIM, FASTFLOW)):
        member = fit(alone(each), each).freeze()
        own = member.score(images)
        score = own.score.log() if member.positive.score else own.score
        scores.append((score - together.score_mean[number]) / together.score_std[number])
        if number == 0:
            assert torch.equal(found.embedding, own.embedding)
    torch.testing.assert_close(found.score, torch.stack(scores).mean(0), rtol=1e-4, atol=1e-4)
    grids = [(member.config.map_height, member.config.map_width) for member in together.members]
    assert found.anomaly_map.shape[1:] == max(grids)


def test_held_out_images_set_the_scales_and_a_later_fit_can_take_them_again() -> None:
    flow = {**CSFLOW, "hyperparameters": {**CSFLOW["hyperparameters"], "score": "mean"}}  # no constants of its own
    together = ensemble(flow, CFLOW)  # a map of CFLOW has values of both signs, as its score has
    fit(together)
    of_training = together.score_mean.clone()
    held_out = InMemory(together, photographs(8, SIZE, seed=2))
    constants = together.fit_constants(held_out, torch.arange(8))
    assert set(constants) == {"score_mean", "score_std", "map_mean", "map_std"}
    assert not torch.equal(constants["score_mean"], of_training)
    scores = together.score_features(held_out.read(torch.arange(8)))
    parts = torch.stack([one.score for one in together.of_members(held_out.read(torch.arange(8)))], 1)
    torch.testing.assert_close(parts.mean(0), together.score_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores.score.mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(scores.anomaly_map.mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
    fit(together)
    assert torch.equal(together.score_mean, of_training)
    assert set(constants) < set(together.state_dict())


def test_a_members_own_constants_come_from_the_same_images() -> None:
    together, flow = fit(ensemble(CSFLOW, PADIM)), fit(alone(CSFLOW), CSFLOW)
    assert isinstance(together, Ensemble)
    images = photographs(8, SIZE, seed=2)
    constants = together.fit_constants(InMemory(together, images), torch.arange(8))
    own = flow.fit_constants(InMemory(flow, images), torch.arange(8))
    assert set(own) == {"head.part_means", "head.part_weights"}
    assert all(torch.equal(constants[f"members.0.{name}"], value) for name, value in own.items())


def test_a_member_reads_its_own_levels_and_no_others_from_disk(tmp_path: Path, monkeypatch) -> None:
    together = ensemble(CSFLOW, PADIM)
    with ImageFeatures(together, tmp_path, "good") as images:
        images.append(photographs(6, SIZE))
        whole, read = images.read(torch.tensor([1, 4])), []
        of_rows = StoredRows.read
        monkeypatch.setattr(StoredRows, "read", lambda rows, positions: (read.append(rows), of_rows(rows, positions))[1])
        for _, levels in together.parts():
            read.clear()
            own = Levels(images, levels).read(torch.tensor([1, 4]))
            assert len(read) == len(own) == len(whole[levels])
            assert all(torch.equal(one, other) for one, other in zip(own, whole[levels], strict=True))


class Killed(Exception):
    pass


def test_a_fit_that_is_killed_goes_on_inside_the_member(tmp_path: Path) -> None:
    expected = fit(ensemble(CSFLOW, FASTFLOW)).state_dict()
    told: list[str] = []

    def go(dies_at: str | None) -> Ensemble:
        detector = ensemble(CSFLOW, FASTFLOW)

        def on_work(work: Work) -> None:
            told.append(f"{work.what} {work.done}/{work.total}")
            if told[-1] == dies_at:
                raise Killed

        run = FitRun(detector.Training(), on_work=on_work, checkpoint=Checkpoint(tmp_path / "training.state", "these"))
        detector.fit(InMemory(detector, photographs(GOODS, SIZE, seed=1)), torch.arange(GOODS), run)
        return detector

    for dies_at in ("fitting csflow 4/6", "fitting fastflow 1/1"):
        with pytest.raises(Killed):
            go(dies_at)
    assert told.count("fitting csflow 3/6") == 1  # the second run goes on after the first epoch
    found = go(None).state_dict()
    assert told.count("fitting csflow 6/6") == 1
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_another_timm_finds_the_structure_of_every_member_again(tmp_path: Path) -> None:
    detector = fit(ensemble(CSFLOW, PADIM))
    own = detector.config.model_copy(update={"trained": {"versions": {"timm": "0.0.1"}}})
    saved = artifact.save(tmp_path / "model", own, detector, "# Card\n")
    assert all(member["structure"] for member in saved.config.hyperparameters["members"])
    images = photographs(3, SIZE)
    assert torch.equal(artifact.load(saved).score(images).score, detector.freeze().score(images).score)


def wrong() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"members": [CSFLOW]}, "at least 2 items"
    yield {"members": [CSFLOW, {"detector": "patchsvdd"}]}, "members must be detectors that read a backbone; got 'patchsvdd'"
    yield {"members": [CSFLOW, {"detector": "ensemble"}]}, "members must be other detectors; got an ensemble"
    yield {"members": [CSFLOW, {"detector": "padin"}]}, "Did you mean 'padim'"
    said = r"members.1.training.epochs must be a setting of padim; got 3. Remove it."
    yield {"members": [CSFLOW, PADIM | {"training": {"epochs": 3}}]}, said
    said = r"members.0.training.epochs must be greater than or equal to 1; got 0. Change it"
    yield {"members": [CSFLOW | {"training": {"epochs": 0}}, PADIM]}, said
    said = r"members.1.hyperparameters.dim must be a setting of padim; got 3"
    yield {"members": [CSFLOW, {"detector": "padim", "hyperparameters": {"dim": 3}}]}, said
    said = r"members.1.hyperparameters.dims must be greater than or equal to 1; got 0"
    yield {"members": [CSFLOW, {"detector": "padim", "hyperparameters": {"dims": 0}}]}, said


@pytest.mark.parametrize(("hyperparameters", "message"), list(wrong()))
def test_what_cannot_work_is_refused(hyperparameters: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, ValidationError), match=message):
        registry.build(config("ensemble", hyperparameters=hyperparameters))


def test_taps_belong_to_the_members() -> None:
    with pytest.raises(ValueError, match=r"taps must be left out for an ensemble; got \(3,\)\. Name them in hyperparameters"):
        ensemble(CSFLOW, PADIM, taps=(3,))
    built = ensemble(CSFLOW | {"taps": (3,)}, PADIM | {"taps": (1, 2)})
    assert built.config.backbone is not None and set(built.config.backbone.taps) == {1, 2, 3}
    assert TINY_CASE["detector"] == built.members[0].config.detector
