"""Ray itself: this machine by default, an existing cluster when an address says so; and who gets which cores."""

import logging
import os

import ray
from pydantic import BaseModel, ConfigDict, Field


class Resources(BaseModel):
    """How the stages share the machines; None means: decided from what the cluster has, and said in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scorers: int | None = Field(None, gt=0)
    scorer_cpus: float | None = Field(None, gt=0)
    scorer_gpus: float | None = Field(None, ge=0)
    threads: int | None = Field(None, gt=0)
    read_cpus: float | None = Field(None, gt=0)
    commit_cpus: float | None = Field(None, gt=0)

    def resolved(self, device: str) -> "Resources":
        """The same with every None filled in for the connected cluster.

        A GPU scores for as many cores as its node has; on CPUs alone, one scorer takes up to eight cores and half of what
        Ray may give away, so that reading, decoding and committing always find a place.
        """
        total = ray.cluster_resources()
        cpus, gpus = total.get("CPU", 1.0), total.get("GPU", 0.0)
        on_gpu = device != "cpu" and gpus > 0
        scorers = self.scorers or (int(gpus) if on_gpu else max(1, int(cpus // 8)))
        defaults = Resources(
            scorers=scorers,
            scorer_cpus=1.0 if on_gpu else cpus / scorers / 2,
            scorer_gpus=1.0 if on_gpu else 0.0,
            threads=1 if on_gpu else max(1, int(cpus // scorers)),
            read_cpus=1.0 if cpus > 4 else 0.5,
            commit_cpus=0.25,
        )
        return defaults.model_copy(update=self.model_dump(exclude_none=True))


def connect(address: str | None) -> None:
    """Start Ray on this machine, or join the cluster of `address` or RAY_ADDRESS."""
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, logging_level=logging.WARNING)
    else:
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
