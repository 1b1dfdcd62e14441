"""Compares the device that the driver decided for a scorer with what its process has, before the model is loaded there."""

import platform

from models.arithmetic import set_arithmetic
from pipeline.scoring.device import check_given, take_share
from pipeline.stages.config import StageConfig


def take_given_device(config: StageConfig) -> None:
    """Check that this process can score on its device, and let it take its share of it.

    Raises:
        WrongDevice: it cannot.
        OutsideArithmetic: the environment changes how models compute.
    """
    import ray

    set_arithmetic()  # cuBLAS reads its part of it when it starts, and taking a share starts CUDA
    where, gpu_ids = f"node {platform.node()}", list[str]()
    if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
        where += f" ({ray.util.get_node_ip_address()})"
        gpu_ids = [str(gpu) for gpu in ray.get_gpu_ids()]
    check_given(config.device, gpu_ids, where)
    if config.device == "cuda":
        take_share(config.gpu_share)
