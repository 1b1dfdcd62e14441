"""The extractor in fp16: types, loading, and features too large for it."""

import pytest
import torch
from tiny_model import tiny_config

from models import registry
from models.detector import FitRun
from models.features.store import FeatureStore
from models.features.whitening import moments_of


def detector_with_large_features():
    """Its features are beyond fp16, whatever the image."""
    detector = registry.build(tiny_config(precision="fp16", batch_size=2))
    with torch.no_grad():
        for name, parameter in detector.backbone.network.named_parameters():
            if name.endswith("bias"):
                parameter.add_(3000 * torch.sign(parameter + 0.1))
            else:
                parameter.mul_(30)
    return detector


def images(config) -> torch.Tensor:
    size = (4, config.input.height, config.input.width, 3)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_what_overflows_has_no_score():
    detector = detector_with_large_features().freeze()
    detector.fitted = True
    assert detector.score(images(detector.config)).score.isnan().all()


def test_training_refuses_features_that_overflow_and_names_the_way_out(tmp_path):
    detector = detector_with_large_features()
    maps = detector.extract(images(detector.config))
    with pytest.raises(ValueError, match="finite.*precision float32"), FeatureStore(tmp_path, "fit") as store:
        store.append(maps)

    class Features:
        def read(self, positions):
            return [x[positions] for x in maps]

    with pytest.raises(ValueError, match="finite.*precision float32"):
        detector.fit(Features(), torch.arange(4), FitRun(detector.Training()))
    with pytest.raises(ValueError, match="finite.*precision float32"):
        moments_of(Features(), torch.arange(4))


def test_weights_loaded_into_an_extractor_get_its_types():
    exact, half = (registry.build(tiny_config(precision=precision)) for precision in ("float32", "fp16"))
    types = {name: x.dtype for name, x in half.state_dict().items()}
    half.load_state_dict(exact.state_dict())
    assert {name: x.dtype for name, x in half.state_dict().items()} == types
    assert torch.float16 in types.values()


def test_maps_of_one_pass_are_not_copied():
    extractor = registry.build(tiny_config()).backbone
    given = []
    extractor.network.register_forward_hook(lambda _module, _inputs, maps: given.extend(maps))
    maps = extractor(extractor.prepare(torch.zeros(1, 64, 96, 3, dtype=torch.uint8)))
    assert {x.data_ptr() for x in maps} == {x.data_ptr() for x in given}
