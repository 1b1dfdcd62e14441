"""The cases of verify.py, the most important first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from cases import ceilings, copies, correctness, decoding, determinism, environment, faults, kernels, rates, training
from cases.place import Place

Found = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A case. run: from the place and the number of its process to lines. proves: whether something must hold; else it is only
    measured. least_s: it is not begun with fewer seconds left. limit_s: it is stopped after so many."""

    name: str
    run: Callable[[Place, int], Found]
    needs_gpu: bool = False
    processes: int = 1
    proves: bool = True
    least_s: float = 5.0
    limit_s: float = 60.0

    @property
    def missed(self) -> bool | None:
        """`ok` of a line that says that the case did not come to its end."""
        return False if self.proves else None


measured = partial(Case, proves=False)


CASES = [
    Case("environment", environment.run),
    *(Case(f"correctness-{name}", partial(correctness.run, name)) for name in correctness.DETECTORS),
    Case("second-process", determinism.again),
    *(Case(f"fault-{fault.__name__}", partial(faults.run, fault), needs_gpu=True) for fault in faults.FAULTS),
    Case("memory-pressure", determinism.under_pressure, needs_gpu=True),
    Case("four-shares", determinism.in_a_share, needs_gpu=True, processes=4),
    Case("training-twice", training.twice),
    Case("training-and-scoring", training.one_arithmetic),
    measured("b5-768", partial(rates.run, rates.B5), limit_s=120.0),
    measured("profile-b5-768", kernels.run, needs_gpu=True),
    measured("mobilenetv1-256", partial(rates.run, rates.MOBILENET)),
    measured("copies", copies.run, needs_gpu=True),
    measured("ceilings", ceilings.run),
    Case("decoding", decoding.run, needs_gpu=True),
    measured("compiled-mobilenetv1-256", partial(rates.compiled, rates.MOBILENET), needs_gpu=True, least_s=40, limit_s=90.0),
    measured("compiled-b5-768", partial(rates.compiled, rates.B5), needs_gpu=True, least_s=60, limit_s=150.0),
]
