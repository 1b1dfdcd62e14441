import pytest
import torch
from torch import nn

from models.backbones.folding import fold, foldable

IMAGES = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))


def norm() -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(4).eval()
    nn.init.uniform_(layer.running_mean)
    return layer


class Reused(nn.Module):
    """One convolution is called twice; another feeds two norms; a third feeds a norm and a sum, as CoAtNet does; the last
    pair is plain."""

    def __init__(self):
        super().__init__()
        self.twice, self.after_twice = nn.Conv2d(4, 4, 1), norm()
        self.shared, self.left, self.right = nn.Conv2d(4, 4, 1), norm(), norm()
        self.summed, self.before = nn.Conv2d(4, 4, 1), norm()
        self.plain, self.after_plain = nn.Conv2d(4, 4, 1), norm()

    def forward(self, x):
        x = self.twice(self.after_twice(self.twice(x)))
        x = self.shared(x)
        x = self.summed(self.left(x) + self.right(x))
        return self.after_plain(self.plain(self.before(x) + x))


@torch.no_grad()
def test_only_pairs_with_one_place_are_folded():
    network = Reused().eval()
    before = network(IMAGES)
    pairs = foldable(network, (), lambda: network(IMAGES))
    assert pairs == [("plain", "after_plain")]
    fold(network, pairs)
    assert "after_plain.running_mean" not in network.state_dict() and "left.running_mean" in network.state_dict()
    torch.testing.assert_close(network(IMAGES), before)


def test_a_tapped_convolution_keeps_its_result():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), norm()).eval()
    assert foldable(network, ("0",), lambda: network(IMAGES)) == []


@pytest.mark.parametrize(("pair", "error"), [(("0", "0"), TypeError), (("1", "1"), TypeError), (("0", "2"), AttributeError)])
def test_a_pair_that_is_none(pair, error):
    with pytest.raises(error):
        fold(nn.Sequential(nn.Conv2d(4, 4, 1), norm()).eval(), [pair])
