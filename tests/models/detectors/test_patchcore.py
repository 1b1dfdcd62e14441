"""PatchCore: what its bank holds, what a distance is, and vision transformers from local files."""

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from models import artifact, registry
from models.backbones.backbone import BackboneConfig
from models.card import card
from models.config import ArtifactConfig, InputConfig
from models.detector import FitRun
from models.detectors.patchcore import PatchCore

TRANSFORMERS = {  # the networks whose features are published with and without registers, a few blocks deep
    "vit_small_patch14_dinov2": (70, {"img_size": 70, "depth": 2}),
    "vit_small_patch14_reg4_dinov2": (70, {"img_size": 70, "depth": 2}),
    "vit_small_patch16_dinov3": (64, {"img_size": 64, "depth": 2}),
}


class InMemory:
    def __init__(self, maps: list[Tensor]):
        self.maps = maps

    def read(self, positions: Tensor) -> list[Tensor]:
        return [x[positions] for x in self.maps]


def build(
    network: str = "test_resnet", side: int = 64, weights: str = "none", kwargs: dict | None = None, **hyper
) -> PatchCore:
    backbone = BackboneConfig(name=network, weights=weights, kwargs=kwargs or {})
    size = InputConfig(height=side, width=side)
    found = registry.build(
        ArtifactConfig(
            name="tiny", detector="patchcore", backbone=backbone, input=size, hyperparameters={"bank_size": 40} | hyper
        )
    )
    assert isinstance(found, PatchCore)
    return found


def images(count: int, side: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator) * 255
    return F.interpolate(coarse, size=(side, side), mode="bilinear").permute(0, 2, 3, 1).to(torch.uint8)


def fitted(detector: PatchCore, goods: Tensor, seed: int = 0) -> PatchCore:
    detector.fit(InMemory(detector.extract(goods)), torch.arange(len(goods)), FitRun(detector.Training(), seed))
    return detector


def test_a_distance_is_that_of_the_nearest_cell_in_the_bank() -> None:
    detector, goods = build(), images(6)
    fitted(detector, goods)
    others = images(2, seed=1)
    cells = detector.extract(others)[0].flatten(2).transpose(1, 2)  # (2, cells, dims)
    expected = torch.cdist(cells.double(), detector.bank.double()).amin(2)
    found = detector.freeze().score(others)
    torch.testing.assert_close(found.anomaly_map.flatten(1).double(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.score.double(), expected.amax(1), atol=1e-5, rtol=1e-4)  # 1 % of 64 cells is one


def test_a_cell_of_the_bank_has_no_distance_and_all_have_length_one_per_tap() -> None:
    detector, goods = build(bank_size=400, bank="random"), images(6)
    fitted(detector, goods)  # 6 x 64 cells, all of them in the bank
    assert float(detector.score(goods).anomaly_map.max()) < 1e-3
    lengths = torch.linalg.vector_norm(detector.extract(goods)[0], dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 2**0.5))  # two taps


def test_a_coreset_covers_rare_cells_that_a_random_bank_misses() -> None:
    goods = images(1).repeat(40, 1, 1, 1)
    goods = (
        (goods.float() + torch.randn(40, 64, 64, 3, generator=torch.Generator().manual_seed(3))).clamp(0, 255).to(torch.uint8)
    )
    goods[7] = images(1, seed=9)[0]  # good too, and rare
    found = {bank: fitted(build(bank=bank, bank_size=160), goods).score(goods[7:8]) for bank in ("coreset", "random")}
    assert float(found["coreset"].anomaly_map.mean()) < 0.7 * float(found["random"].anomaly_map.mean())


def test_the_seed_decides_the_bank() -> None:
    goods = images(6)
    banks = [fitted(build(), goods, seed).bank for seed in (0, 0, 1)]
    assert torch.equal(banks[0], banks[1]) and not torch.equal(banks[0], banks[2])


@pytest.mark.parametrize("network", TRANSFORMERS)
def test_a_transformer_from_a_local_file(network, tmp_path) -> None:
    """With random weights: tokens that are no cells are left out, and the file's weights are those that score."""
    side, kwargs = TRANSFORMERS[network]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        whole = timm.create_model(network, pretrained=False, **kwargs).eval()
    file = tmp_path / "weights.safetensors"
    save_file({key: value.clone() for key, value in whole.state_dict().items()}, file)
    detector = build(network, side, str(file), kwargs, neighbourhood=1, unit=False)
    patch = whole.patch_embed.patch_size[0]
    assert detector.config.map_height == side // patch and detector.bank.shape[1] == 384
    goods = images(4, side)
    with torch.no_grad():
        (expected,) = whole.forward_intermediates(detector.prepare(goods), indices=1, intermediates_only=True)
    channels = detector.channels
    torch.testing.assert_close(detector.extract(goods)[0], expected[:, channels], atol=1e-4, rtol=1e-4)
    fitted(detector, goods)
    saved = artifact.save(tmp_path / "model", detector.config, detector, "# card\n")
    again = artifact.load(saved)
    assert torch.equal(again.score(goods).anomaly_map, detector.freeze().score(goods).anomaly_map)


def test_the_licence_of_the_weights_is_kept_and_the_card_says_it(tmp_path) -> None:
    name, (side, kwargs) = "vit_small_patch16_dinov3", TRANSFORMERS["vit_small_patch16_dinov3"]
    whole = timm.create_model(name, pretrained=False, **kwargs)
    state = {key: value.clone() for key, value in whole.state_dict().items()}
    save_file(state, tmp_path / "plain.safetensors")
    save_file(state, tmp_path / "own.safetensors", {"license": "of-the-plant"})
    found = {
        weights: build(name, side, weights, kwargs).config
        for weights in ("none", f"{tmp_path}/plain.safetensors", f"{tmp_path}/own.safetensors")
    }
    licences = [config.backbone.licence for config in found.values()]
    assert licences == [None, "dinov3-license", "of-the-plant"]
    counts = dict.fromkeys(("images", "fit", "selection", "calibration", "excluded", "groups"), 0)
    made = {"groups_by": "-", "seed": 0, "epochs": None, "device": "cpu", "training": {}, "versions": {}, "unreadable": {}}
    said = [card(config.model_copy(update={"trained": counts | made | {"synthetic_auroc": {}}})) for config in found.values()]
    assert "licence" not in said[0]
    assert "- the backbone's weights have the licence dinov3-license\n" in said[1]
    assert "- the backbone's weights have the licence of-the-plant\n" in said[2]
