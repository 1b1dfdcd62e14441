"""Starts Ray on this machine or joins a cluster at an address, and decides who gets which cores and GPUs."""

import logging
import os
import signal
from dataclasses import replace
from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.scoring.device import Device, parsed, why_no_gpu
from pipeline.stages.cluster_address import NoCluster, check_cluster, cluster_address, quieted
from pipeline.stages.config import StageConfig
from pipeline.stages.faults import StagesError
from pipeline.stages.joining.facts import MEND
from pipeline.stages.own_signals import own_sigterm
from pipeline.stages.ray_output import set_output
from pipeline.stages.session_folder import session_folder

log = logging.getLogger(__name__)

JOINING = "joining the Ray cluster at %s"

IDLE_WORKERS_STAY_S = 600
"""Ray ends workers that are idle for a second when there are more workers than cores. A stage has a unit every few seconds, and
its next worker spends two or three core seconds on the same imports again: on two cores a fifth of a run's time.
cluster.yaml and deploy/ set the same on nodes where others start Ray."""

OOM_RETRIES = 3
"""Of a task that Ray ended because its node ran out of memory; by default it is repeated for ever."""


RAY_STEP = Fraction(1, 10_000)
"""Ray counts parts of a GPU in steps of this."""


class DeviceMissing(StagesError):
    """The settings contradict each other about GPUs, or ask for one on a machine without, and no cluster could bring one."""


class Resources(BaseModel):
    """How the stages share the machines; None: decided from what the cluster has and reported in one line.

    scorers: how many are asked for; those that find a place score, even if others find none.
    tile_decoders: processes beside each scorer that decode images to be cut into tiles. Each holds one picture. None: each
        scorer decides it from what its node has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scorers: int | None = Field(None, gt=0)
    scorer_cpus: float | None = Field(None, gt=0)
    scorer_gpus: float | None = Field(None, ge=0, allow_inf_nan=False)
    threads: int | None = Field(None, gt=0)
    read_cpus: float | None = Field(None, gt=0)
    commit_cpus: float | None = Field(None, gt=0)
    tile_decoders: int | None = Field(None, gt=0)

    @field_validator("scorer_gpus")
    @classmethod
    def _gpus_that_ray_can_give(cls, gpus: float | None) -> float | None:
        exact = _exact(gpus or 0)
        if exact % RAY_STEP or (exact > 1 and exact % 1):
            rule = f"a part of one GPU in steps of {float(RAY_STEP):g}, or a whole number of GPUs"
            raise ValueError(f"resources.scorer_gpus must be {rule}; got {gpus!r}. Correct it.")
        return gpus

    @property
    def device(self) -> Device:
        """What scores with these resources, once they are resolved: a scorer that holds a GPU, or a part of one, uses it."""
        assert self.scorer_gpus is not None
        return "cuda" if self.scorer_gpus else "cpu"

    def given(self, config: StageConfig) -> StageConfig:
        """The config that tells scorers with these resources, once they are resolved, what they have.

        Raises DeviceMissing when a GPU is to decode and none scores.
        """
        if config.scoring.decode.decoder == "cuda" and self.device == "cpu":
            rule = (
                f"run where a GPU scores: it was planned with decoder 'cuda', which names its units; got device {self.device!r}"
            )
            raise DeviceMissing(f"slice {config.slice} must be {rule}. Set device to cuda, on a machine or cluster with GPUs.")
        share = min(1.0, self.scorer_gpus or 1.0)
        return replace(config, device=self.device, threads=self.threads, gpu_share=share, tile_decoders=self.tile_decoders)

    def want_gpus(self, device: str) -> bool:
        """Whether the settings ask for GPUs, even where there is none yet."""
        return device == "cuda" if self.scorer_gpus is None else self.scorer_gpus > 0

    def resolved(self, device: str) -> "Resources":
        """The same with every None but that of tile_decoders filled in for the connected cluster.

        A GPU scores for as many cores as its node has; on CPUs alone, one scorer takes up to eight cores and half of what
        Ray may give away, so that reading, decoding and committing always find a place. The cluster is asked
        for the GPUs that the settings name, even before it has any: one, unless the settings say how many.
        """
        import ray

        total = ray.cluster_resources()
        cpus, gpus = total.get("CPU", 1.0), total.get("GPU", 0.0)
        on_gpu = self.want_gpus(device) or (device == "auto" and self.scorer_gpus is None and gpus > 0)
        gpus_each = (self.scorer_gpus or 1.0) if on_gpu else 0.0
        scorers = self.scorers or max(1, scorers_on(gpus, gpus_each) if on_gpu else int(cpus // 8))
        defaults = Resources(
            scorers=scorers,
            scorer_cpus=1.0 if on_gpu else cpus / scorers / 2,
            scorer_gpus=gpus_each,
            threads=1 if on_gpu else max(1, int(cpus // scorers)),
            read_cpus=1.0 if cpus > 4 or on_gpu else 0.5,
            commit_cpus=0.25,
        )
        return defaults.model_copy(update=self.model_dump(exclude_none=True))

    def sentence(self) -> str:
        """The line that a start prints about resolved resources, and what it waits for."""
        import ray

        said = (
            f"scoring on {self.scorers} process(es) of {self.threads} thread(s), "
            f"{self.scorer_cpus:g} CPU and {self.scorer_gpus:g} GPU each, "
            f"reading and decoding in tasks of {self.read_cpus:g} CPU"
        )
        if self.scorer_gpus and not ray.cluster_resources().get("GPU"):
            said += "; the cluster has no GPU yet: asked for them, waiting until its autoscaler brings the first"
        return said


def scorers_on(gpus: float, gpus_each: float) -> int:
    """How many scorers find a place, each with so many GPUs or with a part of one. A part never lies on two GPUs."""
    each = _exact(gpus_each)
    return int(gpus) // int(each) if each >= 1 else int(gpus) * (1 // each)


def _exact(gpus: float) -> Fraction:
    """The number as a user writes it: 0.1 is a tenth, and no binary fraction near it."""
    return Fraction(repr(gpus))


def check_device(resources: Resources, device: str, address: str | None) -> None:
    """Checks all that is known before Ray starts.

    Raises:
        NoSuchDevice: the device is none of auto, cpu, cuda.
        DeviceMissing: device and scorer_gpus contradict each other; or GPUs are asked for, but none is here and no cluster.
    """
    parsed(device)
    gpus = resources.scorer_gpus
    if (device == "cuda" and gpus == 0) or (device == "cpu" and gpus):
        fix = "Give scorers a GPU, or set device to cpu." if device == "cuda" else "Set it to 0, or set device to cuda."
        raise DeviceMissing(f"resources.scorer_gpus must fit device {device!r}; got {gpus:g}. {fix}")
    if not resources.want_gpus(device) or cluster_address(address):
        return
    if (missing := why_no_gpu()) is not None:
        asked = f"device={device!r}" if device == "cuda" else f"resources.scorer_gpus={gpus:g}"
        raise DeviceMissing(
            f"device must be one that this machine has; got {asked}, and torch says: {missing}. "
            "Set device to cpu or auto, or join a cluster with --address."
        )


def start_ray(address: str | None) -> None:
    """Start Ray on this machine, or join the cluster of `address` or RAY_ADDRESS.

    The cluster is asked again, although a command has asked it before it opened the model: that costs a fraction of a second,
    and Ray would wait minutes for a cluster that is gone meanwhile.

    Raises:
        NoCluster: it cannot be joined.  NoSessionFolder: this machine has no place for Ray's sockets or objects.
    """
    import ray

    set_output()
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_task_oom_retries", str(OOM_RETRIES))  # read where tasks are submitted, so on any cluster
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quieted()
    if ray.is_initialized():
        return
    cluster = check_cluster(address)
    if cluster is not None:
        _join(cluster.address)
        return
    session = session_folder()
    for line in session.lines:
        print(line, flush=True)
    # Ray's default of 15 would make the run give way to everything else here, whatever priority it was started with.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(IDLE_WORKERS_STAY_S * 1000))
    log.info("starting Ray on this machine")
    with own_sigterm():
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING, **session.options())


def _join(cluster: str) -> None:
    """What has answered to `check_cluster` may still refuse, or go away meanwhile."""
    import ray
    from ray.exceptions import RayError

    try:
        log.info(JOINING, cluster)
        with own_sigterm():
            ray.init(address=cluster, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, RayError, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:  # Ray's answer to that signal
            raise
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NoCluster(
            f"address must be that of a Ray cluster that runs; got {cluster!r}, and Ray says: {said.rstrip('.')}. {MEND}"
        ) from error
