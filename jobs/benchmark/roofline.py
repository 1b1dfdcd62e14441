"""Compares a model's speed with its device's limits: an image's operations and bytes beside the measured ceilings."""

from dataclasses import dataclass

from jobs.benchmark.ceilings import Ceilings


@dataclass(frozen=True)
class Roofline:
    """flops: of an image, by type of the operands.  bytes: of an image, as if no cache held any and nothing were fused.
    per_s: images a second of the model alone."""

    flops: dict[str, float]
    bytes: float
    ceilings: Ceilings
    per_s: float

    @property
    def share_of_arithmetic(self) -> float:
        """The share of the arithmetic ceilings, for the types of the operations."""
        return self.ceilings.least_seconds(self.flops, 0) * self.per_s

    @property
    def share_of_memory(self) -> float:
        """The share of the copying ceiling; above 1 if caches hold part of the bytes."""
        return self.ceilings.least_seconds({}, self.bytes) * self.per_s

    def sentence(self, device: str) -> str:
        """The comparison in one sentence. device: in words."""
        operations = " and ".join(f"{count / 1e9:.3g} GFLOP in {kind}" for kind, count in self.flops.items())
        best = ", ".join(f"{count / 1e9:,.0f} GFLOP/s in {kind}" for kind, count in self.ceilings.flops_per_s.items())
        return (
            f"roofline: an image takes {operations}, and {self.bytes / 1e6:,.0f} MB if no cache holds any; {device} does "
            f"at best {best} and {self.ceilings.bytes_per_s / 1e9:,.0f} GB/s, so at {self.per_s:.1f} images/s the model "
            f"reaches {self.share_of_arithmetic:.0%} of its arithmetic and {self.share_of_memory:.0%} of its memory's speed"
        )
