"""How many children decode tiles beside a scorer. The scorer decides it on its node: the driver knows what the cluster has,
which may be nothing yet, and not where a scorer will be."""

import os

from pipeline.stages.config import StageConfig


def tile_children(config: StageConfig) -> int:
    """As many as the settings say, at most one for each core of this machine. Otherwise as many as threads that score on a CPU;
    beside a GPU, its part of the node's cores but the one that drives it."""
    cores = os.cpu_count() or 1
    if config.tile_decoders is not None:
        return min(config.tile_decoders, cores)
    if config.device == "cpu":
        return min(config.threads or 1, cores)
    cpus, part = _of_this_node(config.gpu_share)
    return max(1, int(round(min(cpus, cores) * part, 6)) - 1)  # by floats a part of cores may be a little less


def _of_this_node(gpu_share: float) -> tuple[float, float]:
    """The cores that Ray may give away here, fewer than the machine's in a container, and the part of all GPUs here that this
    process has."""
    import ray

    if not ray.is_initialized():
        return float(os.cpu_count() or 1), gpu_share
    here = ray.get_runtime_context().get_node_id()
    (node,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    return node.get("CPU", 1.0), gpu_share * max(1, len(ray.get_gpu_ids())) / node.get("GPU", 1.0)
