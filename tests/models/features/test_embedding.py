import pytest
import torch

from models.features.embedding import embedding


@pytest.mark.parametrize("channels", [8, 32, 50])
def test_embedding_is_the_mean_of_the_first_components(channels):
    maps = torch.randn(3, channels, 4, 5)
    pooled = embedding(maps)
    assert pooled.shape == (3, 32) and pooled.dtype == torch.float16
    kept = min(channels, 32)
    torch.testing.assert_close(pooled[:, :kept].float(), maps[:, :kept].mean((2, 3)), atol=1e-3, rtol=1e-3)
    assert not pooled[:, kept:].any()


def test_numbers_beyond_float16_are_cut_off():
    found = embedding(torch.tensor([1e5, -1e38, float("inf"), 3.0, float("nan")]).view(1, 5, 1, 1))[0, :5]
    assert found[:4].tolist() == [65504, -65504, 65504, 3] and found[4].isnan()
