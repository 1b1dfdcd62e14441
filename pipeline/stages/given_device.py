"""Compares what the driver decided for a scorer with what its process has, before the model is loaded there."""

import platform

from models.arithmetic import set_arithmetic
from pipeline.scoring.device import check_given, take_share
from pipeline.stages.config import StageConfig


def take_given_device(config: StageConfig) -> None:
    """Check that this process can score on its device, and let it take its share of it.

    Raises:
        OutsideArithmetic: the environment of this node would change scores.  WrongDevice: it has another device.
    """
    set_arithmetic()  # cuBLAS reads its part of it when it starts, and taking a share starts CUDA
    check_given(config.device, _gpus() if _is_actor() else [], this_node())
    if config.device == "cuda":
        take_share(config.gpu_share)


def this_node() -> str:
    """The node of this process in words, with its address in a cluster."""
    import ray

    return f"node {platform.node()}" + (f" ({ray.util.get_node_ip_address()})" if _is_actor() else "")


def _is_actor() -> bool:
    import ray

    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


def _gpus() -> list[str]:
    import ray

    return [str(gpu) for gpu in ray.get_gpu_ids()]
