import torch
from torch import nn

from models.prepared import Prepared


class Doubled(Prepared):
    """Gives twice its weight, prepared or not."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.frozen = None

    def freeze(self):
        self.frozen = 2 * self.weight.detach()

    def forward(self):
        return 2 * self.weight if self.frozen is None else self.frozen


def test_what_was_prepared_is_forgotten_with_the_weights_also_inside_others():
    for assign in (False, True):
        inner = Doubled(1.0)
        whole = nn.Sequential(inner)
        inner.freeze()
        assert inner() == 2
        whole.load_state_dict({"0.weight": torch.tensor(5.0)}, assign=assign)
        assert inner() == 10 and inner.frozen is None


def test_what_was_prepared_does_not_stay_behind_on_a_device():
    inner = Doubled(1.0)
    inner.freeze()
    nn.Sequential(inner).to("meta")
    assert inner().device.type == "meta"
