"""What a node costs, for `flowscore bench --plan`."""

from pydantic import BaseModel, ConfigDict, Field

from jobs.benchmark.cost import Node
from jobs.benchmark.hardware import cores


class Prices(BaseModel):
    """Size of a node and its price an hour, USD: one price if the model runs on CPUs, another if it runs on GPUs.

    cpus_per_node, gpus_per_node: None stands for the cores of this machine, and for one GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu_node_usd_per_h: float | None = Field(None, gt=0)
    gpu_node_usd_per_h: float | None = Field(None, gt=0)
    cpus_per_node: int | None = Field(None, ge=1)
    gpus_per_node: int | None = Field(None, ge=1)

    def node(self, on_gpu: bool) -> Node:
        price = self.gpu_node_usd_per_h if on_gpu else self.cpu_node_usd_per_h
        return Node(self.cpus_per_node or cores(), (self.gpus_per_node or 1) if on_gpu else 0, price)
