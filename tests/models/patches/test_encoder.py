"""Embeddings of all patches in one pass against those of patches that are cut out."""

import pytest
import torch

from models.patches.encoder import LARGE, LARGE_STRIDE, SMALL, STRIDES, EncoderHier


@pytest.fixture(scope="module")
def encoder() -> EncoderHier:
    torch.manual_seed(0)
    return EncoderHier().double().requires_grad_(False)


def patches(images: torch.Tensor, size: int, stride: int) -> tuple[torch.Tensor, int, int]:
    """All patches in rows, (B * h * w, 3, size, size), and h, w."""
    cut = images.unfold(2, size, stride).unfold(3, size, stride)  # (B, 3, h, w, size, size)
    rows, columns = cut.shape[2:4]
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(0, 2), rows, columns


def as_map(embeddings: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    return embeddings.reshape(-1, rows, columns, embeddings.shape[1]).permute(0, 3, 1, 2)  # (B, 64, h, w)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("size", [(64, 64), (80, 64), (65, 79), (70, 66)])
def test_one_pass_gives_what_cutting_gives(encoder, size, stride):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)).double()
    small, large = encoder.dense(images, stride)
    cut, rows, columns = patches(images, LARGE, LARGE_STRIDE)
    torch.testing.assert_close(large, as_map(encoder(cut), rows, columns), rtol=0, atol=1e-14)
    if stride > 2:  # of every second pixel it is many patches, and all of these are among them
        cut, rows, columns = patches(images, SMALL, stride)
        torch.testing.assert_close(small, as_map(encoder.deep(cut), rows, columns), rtol=0, atol=1e-14)
    else:
        torch.testing.assert_close(small[:, :, ::2, ::2], encoder.dense(images, 4)[0], rtol=0, atol=1e-14)


def test_shapes_and_range(encoder):
    small, large = encoder.dense(100 * torch.randn(1, 3, 96, 64).double(), 4)
    assert small.shape == (1, 64, 17, 9) and large.shape == (1, 64, 3, 1)
    assert small.abs().max() <= 1 and large.abs().max() <= 1


@pytest.mark.parametrize("patch", [SMALL, LARGE])
def test_a_patch_reads_its_own_pixels_only(encoder, patch):
    """All of them but the last row and column of a 32-pixel square."""
    images = torch.rand(1, 3, 128, 128).double().requires_grad_()
    small, large = encoder.dense(images, 4)
    i, j, maps, stride = (5, 3, small, 4) if patch == SMALL else (2, 1, large, LARGE_STRIDE)
    (gradient,) = torch.autograd.grad(maps[0, :, i, j].sum(), images)
    rows, columns = (gradient[0] != 0).any(0).nonzero().T
    assert (rows.min(), rows.max()) == (stride * i, stride * i + patch - 2)
    assert (columns.min(), columns.max()) == (stride * j, stride * j + patch - 2)
