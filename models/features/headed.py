"""What all flows share that may have a head beside them: the joined map and score, their constants, and the fit of both."""

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor

from models.detector import Detector, Features, FitRun
from models.features.position_head import PositionHead, PositionHeadConfig
from models.maps.grids import Maps

JOINED = "joined"  # the score of a flow and its head


class Headed(Detector):
    """A flow's detector. What its head reads is the last map of `features`; the other maps are the flow's."""

    head: PositionHead | None

    def _alone(self, maps: Maps) -> tuple[Tensor, Tensor]:
        """The flow's own score, (B,), and map, (B, h, w), from its own maps."""
        raise NotImplementedError

    def _fit_beside(self, fit_flow: Callable[[FitRun], None], features: Features, positions: Tensor, run: FitRun) -> None:
        """The head in closed form, the flow, and what joins their maps; the flow alone where there is no head."""
        if self.head is None:
            fit_flow(run)
        else:
            self.head.fit_beside(fit_flow, self._alone, features, positions, run)

    def _joined(self, score: Tensor, cells: Tensor, maps: Maps) -> tuple[Tensor, Tensor]:
        """Image scores, (B,), and map of `_alone`'s results and all maps."""
        if self.head is None:
            return score, cells
        cells = self.head.joined(cells, maps[-1])
        return self.head.joined_score(score, cells) if self.head.scores else score, cells

    def fit_constants(self, features: Features, held_out: Tensor) -> dict[str, Tensor]:
        """The weights of the joined score's parts."""
        if self.head is None or not self.head.scores:
            return {}
        return {f"head.{name}": value for name, value in self.head.weigh(self._alone, features, held_out).items()}

    def fit_bytes(self) -> int:
        return 0 if self.head is None else self.head.fit_bytes()

    def freeze(self) -> Self:
        super().freeze()
        if self.head is not None:
            self.head.gaussian.freeze()
        return self


def layers_of(head: PositionHeadConfig | None) -> dict[str, Any]:
    """The layers that a head reads beside the flow's, as arguments of FeatureExtractor.

    >>> layers_of(PositionHeadConfig(reductions=(8,))), layers_of(None)
    ({'beside': (), 'beside_reductions': (8,)}, {})
    """
    return {} if head is None else {"beside": head.taps, "beside_reductions": head.reductions}


def score_of(score: str | None, head: PositionHeadConfig | None) -> str:
    """The name of a score: the one that is given, joined beside a head, and the flow's mean without.

    >>> score_of(None, PositionHeadConfig()), score_of(None, None), score_of("max", None)
    ('joined', 'mean', 'max')
    """
    return score or ("mean" if head is None else JOINED)


def check_head(head: PositionHeadConfig | None, score: str | None, map: str, joins: str) -> None:
    """Raises ValueError for a head beside a map that it cannot join, and for a joined score without a head.

    joins: the name of the map whose values are on a scale of logarithms or nats, or have both signs.

    >>> check_head(PositionHeadConfig(), None, map="nll", joins="nll")
    """
    if head is not None and map != joins:
        raise ValueError(f"map must be {joins} beside a head; got {map!r}. Leave it out, or set head to null.")
    if head is None and score == JOINED:
        raise ValueError("score must be another without a head; got 'joined'. Leave it out.")
