"""What scored a unit: a commit's footer, the tally of a slice and its row of the table runs have it."""

from typing import NamedTuple


class ScoredOn(NamedTuple):
    """device: the scoring mode, kind and precision, by which scores compare: `cuda-bf16`.
    hardware: chip and libraries in words, on which scores are equal bit for bit; "" for a commit that does not say it.
    one_by_one: whether a GPU started the kernels one by one, because the model does not run there as a CUDA graph.
    """

    device: str
    hardware: str = ""
    one_by_one: bool = False

    def __str__(self) -> str:
        """`cuda-bf16: NVIDIA L4, 58 multiprocessors, torch 2.15.0, cuDNN 9.26.0`. Whether kernels start one by one is left out,
        since the scores are the same."""
        return f"{self.device}: {self.hardware}" if self.hardware else self.device
