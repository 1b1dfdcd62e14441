"""The head beside a flow: what it reads, how its covariance is shrunk, and the map that both make."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models import artifact, registry
from models.backbones.backbone import BackboneConfig
from models.config import ArtifactConfig, InputConfig
from models.detector import Detector, FitRun
from models.explain.explainer import Explainer
from models.explain.methods import METHODS
from models.features.position_gaussian import PositionMoments
from models.features.position_head import PositionHead, PositionHeadConfig, bounded

FLOWS = {
    "csflow": {"whiten_dims": 6, "hidden": 4, "kernels": [3]},
    "fastflow": {"whiten_dims": 6, "steps": 2},
    "differnet": {"whiten_dims": 6, "hidden": 4, "blocks": 2, "transforms": 2, "scales": 1},
}
HEAD = {"dims": 10, "reductions": [4, 8]}


class InMemory:
    def __init__(self, maps: list[Tensor]):
        self.maps = maps

    def read(self, positions: Tensor) -> list[Tensor]:
        return [x[positions] for x in self.maps]


def build(detector: str, head: dict | None, score: str | None = None, **fields) -> Detector:
    return registry.build(
        ArtifactConfig(
            name="tiny",
            detector=detector,
            backbone=BackboneConfig(name="test_resnet", weights="none", taps=fields.pop("taps", ())),
            input=InputConfig(height=64, width=80),
            hyperparameters=FLOWS[detector] | {"head": head, "score": score},
            **fields,
        )
    )


def fit(detector: Detector, images: Tensor, after_epoch: Callable[[int], bool] | None = None) -> None:
    run = FitRun(detector.Training(epochs=2), after_epoch=after_epoch)
    detector.fit(InMemory(detector.extract(images)), torch.arange(len(images)), run)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (24, 64, 80, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("detector", FLOWS)
def test_the_head_changes_the_map_alone_where_the_score_is_the_flows(detector, images):
    alone, headed = build(detector, None), build(detector, HEAD, score="mean")
    for each in (alone, headed):
        fit(each, images)
    without, found = alone.score(images[:5]), headed.score(images[:5])
    assert torch.equal(found.score, without.score) and torch.equal(found.embedding, without.embedding)
    assert without.anomaly_map.shape[1:] in [(4, 5), (8, 10)] and found.anomaly_map.shape[1:] == (16, 20), "stride 4"


@pytest.mark.parametrize("detector", FLOWS)
def test_both_maps_have_the_scale_of_good_images(detector, images):
    """So that the share means what it says, and a map of good images is about 0 with a deviation below 1."""
    found = build(detector, HEAD)
    fit(found, images)
    maps = found.extract(images)
    own = (found.head._left_out(found.head.cells(maps[-1])) - found.head.own_mean) / found.head.own_std
    flow = (found._alone(maps[:-1])[1] - found.head.flow_mean) / found.head.flow_std
    for cells in (own, flow):
        assert abs(cells.mean().item()) < 1e-3 and cells.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("detector", FLOWS)
def test_the_joined_score_is_the_mean_of_two_deviations(detector, images):
    """Of the flow's own score and of the highest hundredth of the joined map's cells, three of 16 x 20, both computed anew."""
    alone, headed = build(detector, None), build(detector, HEAD)
    for each in (alone, headed):
        fit(each, images[:14])
    headed.fit_constants(InMemory(headed.extract(images)), torch.arange(14, 24))
    own, found = alone.score(images[14:]), headed.score(images[14:])
    assert headed.config.hyperparameters["score"] == "joined" and not headed.positive.score
    top = found.anomaly_map.flatten(1).sort(1).values[:, -3:].mean(1)
    parts = [(x - x.mean()) / x.std() for x in (own.score.log(), top)]
    torch.testing.assert_close(found.score, (parts[0] + parts[1]) / 2, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("detector", FLOWS)
def test_the_joined_score_is_the_flows_until_it_is_weighed(detector, images):
    """The logarithm, which orders images alike."""
    alone, headed = build(detector, None), build(detector, HEAD)
    for each in (alone, headed):
        fit(each, images)
    assert torch.equal(headed.score(images).score, alone.score(images).score.log())


@pytest.mark.parametrize("shrinkage", [0.0, 1.0])
def test_a_fitted_image_counts_as_left_out(shrinkage):
    """As a fit without it says; exactly so where nothing is shrunk, since the mean covariance changes with it too."""
    maps = torch.randn(30, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    config = PositionHeadConfig(taps=(1,), dims=6, shrinkage=shrinkage, regularisation=1e-6)

    def fitted(positions: Tensor) -> PositionHead:
        head = PositionHead(config, [6], [(4, 4)], (4, 4))
        head.fit(InMemory([maps]), positions, FitRun(PositionHeadConfig()))
        return head

    whole = fitted(torch.arange(30))
    found, plain = whole._left_out(whole.cells(maps)), whole.cells(maps)
    for i in (0, 7, 29):
        without = fitted(torch.tensor([j for j in range(30) if j != i])).cells(maps[i : i + 1])[0]
        if shrinkage == 0:
            torch.testing.assert_close(found[i], without, atol=1e-3, rtol=1e-3)
        assert (found[i] - without).abs().mean() < 0.2 * (plain[i] - without).abs().mean()


def test_the_joined_score_of_a_region_leaves_the_other_cells_out():
    mask = torch.zeros(64, 80, dtype=torch.bool)
    mask[:, :40] = True
    whole = PositionHead(PositionHeadConfig(taps=(1,), dims=4), [4], [(8, 10)], flow_grid=(4, 5), scores=True)
    half = PositionHead(PositionHeadConfig(taps=(1,), dims=4), [4], [(8, 10)], flow_grid=(4, 5), seen=mask, scores=True)
    joined = torch.zeros(1, 8, 10)
    joined[0, 0, 9] = 7.0
    for head in (whole, half):
        head.part_weights.fill_(1.0)
    assert float(whole.joined_score(torch.ones(1), joined)) == 7 and float(half.joined_score(torch.ones(1), joined)) == 0


@pytest.mark.parametrize("detector", FLOWS)
def test_without_a_head_there_is_no_joined_score(detector):
    with pytest.raises(ValueError, match="score must be another without a head; got 'joined'. Leave it out."):
        build(detector, None, score="joined")
    assert build(detector, None).config.hyperparameters["score"] == "mean"


def test_a_model_whose_score_is_the_flows_has_no_constants_of_a_joined_one(images):
    """As those have that were trained before there was one."""
    state = build("csflow", HEAD, score="mean").state_dict()
    assert "head.flow_mean" in state and not {"head.part_means", "head.part_weights"} & set(state)


def test_a_spot_is_found_by_the_cell_that_shows_it(images):
    found = build("csflow", HEAD | {"share": 1.0})
    calm = (images.float() * 0.1 + 100).to(torch.uint8)
    fit(found, calm)
    spotted = calm[:1].clone()
    spotted[0, 20:28, 40:48] = 255
    change = (found.score(spotted).anomaly_map - found.score(calm[:1]).anomaly_map)[0]  # 16 x 20 cells of 4 pixels
    row, column = divmod(int(change.argmax()), 20)
    assert 4 <= row <= 7 and 9 <= column <= 12 and change[row, column] > 1
    assert change[-1, 0] < 0.2


def test_an_epochs_scores_have_the_maps_of_its_own_flow(images):
    found = build("csflow", HEAD)
    maps: list[Tensor] = []

    def after_epoch(epoch: int) -> bool:
        maps.append(found.score(images[:3]).anomaly_map)
        return False

    fit(found, images, after_epoch)
    assert torch.equal(maps[-1], found.score(images[:3]).anomaly_map)
    other = build("csflow", HEAD)
    fit(other, images)
    assert torch.equal(maps[-1], other.score(images[:3]).anomaly_map), "looking changes nothing"


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize("detector", FLOWS)
def test_fewer_dims_than_layers_leave_some_layers_out(detector, dims, images, tmp_path):
    """From the fit to the artifact, the score and its explanation."""
    found = build(detector, {"dims": dims, "reductions": [4, 8, 16]})
    assert len(found.config.hyperparameters["head"]["taps"]) == 3 and len(found.head.channels) == dims
    fit(found, images[:14])
    found.fit_constants(InMemory(found.extract(images)), torch.arange(14, 24))
    again = artifact.load(artifact.save(tmp_path / "model", found.config, found, "# card\n"))
    scored, loaded = found.freeze().score(images[:5]), again.score(images[:5])
    assert torch.equal(scored.score, loaded.score) and torch.equal(scored.anomaly_map, loaded.anomaly_map)
    assert bool(torch.isfinite(scored.score).all()) and bool(torch.isfinite(scored.anomaly_map).all())
    explainer = Explainer(again)
    faults = explainer.check(images[0])
    assert set(faults) == {"cam"}
    assert all(bool(torch.isfinite(explainer(images[:1], method)).all()) for method in METHODS if method not in faults)


@pytest.mark.parametrize(("taps", "beside"), [((), [1, 2]), (("layer3",), ["layer1", "layer2"])])
def test_its_layers_are_named_as_the_flows_are(taps, beside, images, tmp_path):
    found = build("csflow", HEAD, taps=taps)
    assert found.config.hyperparameters["head"]["taps"] == beside
    assert found.config.backbone.taps == (taps or (3,)), "the flow's stay its own"
    assert len(found.config.backbone.structure.channels) == 3
    fit(found, images)
    saved = artifact.save(tmp_path / "model", found.config, found, "# card\n")
    again = artifact.load(saved)
    assert torch.equal(again.score(images[:5]).anomaly_map, found.freeze().score(images[:5]).anomaly_map)


def test_a_layer_that_both_read_is_computed_once(images):
    found = build("fastflow", {"dims": 10, "reductions": [8, 16]})
    assert found.config.backbone.taps == (2, 3) and len(found.config.backbone.structure.channels) == 2
    levels = found.extract(images[:2])
    assert [tuple(x.shape[1:]) for x in levels] == [(48, 8, 10), (192, 4, 5), (10, 8, 10)]


@pytest.mark.parametrize("taps", [(1,), ("layer1",)])
def test_the_network_runs_no_deeper_for_it(taps):
    found = build("csflow", {"dims": 10, "reductions": [4, 16]}, taps=taps)
    assert found.config.hyperparameters["head"]["taps"] == list(taps)
    only_deeper = build("csflow", {"dims": 10, "reductions": [32]}, taps=taps)
    assert only_deeper.config.hyperparameters["head"]["taps"] == list(taps), "the flow's own"


@pytest.mark.parametrize(
    ("detector", "kind", "joins"),
    [("csflow", "energy", "nll"), ("fastflow", "likelihood", "nll"), ("differnet", "gradient", "contribution")],
)
def test_maps_of_other_scales_are_not_joined(detector, kind, joins):
    config = ArtifactConfig(name="tiny", detector=detector, hyperparameters=FLOWS[detector] | {"map": kind})
    with pytest.raises(ValueError, match=f"map must be {joins} beside a head; got '{kind}'. Leave it out"):
        registry.build(config)


def test_shrinking_is_as_if_images_of_the_mean_covariance_had_been_seen():
    moments = PositionMoments(positions=3, channels=2)
    maps = torch.randn(9, 2, 1, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0])
    moments.update(maps)
    plain = moments.covariance()
    moments.shrink(images=8)  # as many as there are degrees of freedom
    torch.testing.assert_close(moments.covariance(), (plain + plain.mean(0)) / 2)


def test_fewer_images_than_dimensions_do_not_blow_up_a_position():
    """Without shrinkage the directions that two images leave open have the regularisation alone for a variance."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(40, 12, 4, 4, generator=generator)
    far = []
    for shrinkage in (0.0, 1.0):
        head = PositionHead(PositionHeadConfig(taps=(1,), dims=12, shrinkage=shrinkage), [12], [(4, 4)], (4, 4))
        head.fit(InMemory([maps[:4]]), torch.arange(4), FitRun(PositionHeadConfig()))
        far.append(float(head.cells(maps[4:]).mean()))
    assert far[0] > 2 and abs(far[1]) < 0.5, "new images of the same kind have a mean squared distance of about 1"


@pytest.mark.parametrize("value", [1e6, 1e30, float("inf")])
def test_a_flow_that_explodes_leaves_the_outline_to_the_head(value: float) -> None:
    """It does so all around a defect, by orders of magnitude; the map is as high as it can be there, and the head draws it."""
    head = PositionHead(PositionHeadConfig(taps=(1,), dims=4), [4], [(8, 8)], flow_grid=(8, 8))
    features = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 8, 8)
    flow[0, :, 4:] = value
    joined = head.joined(flow, features)
    assert bool(torch.isfinite(joined).all())
    own = head.cells(features)[0, :, 4:].flatten()
    assert torch.equal(joined[0, :, 4:].flatten().argsort(), own.argsort())
    plain = head.joined(torch.zeros(1, 8, 8), features)
    assert torch.equal(joined[0, :, :4], plain[0, :, :4])
    risen = joined[0, :, 4:] - plain[0, :, 4:]
    assert bool((risen > 1.99).all()) and bool((risen <= 2.0001).all())  # half of the four deviations that a flow has at most


def test_deviations_keep_their_order() -> None:
    deviations = torch.linspace(-5, 60, 4000)
    found = bounded(deviations, 4.0)
    assert bool((found.diff() > 0).all()) and float(found.max()) < 4
    assert torch.equal(found[deviations <= 0], deviations[deviations <= 0])
    assert float(bounded(torch.tensor(0.01), 4.0)) == pytest.approx(0.01, rel=0.01)
