"""Nodes are made up here: a test has no GPU, and Ray starts in seconds."""

import os

import pytest
import ray

from pipeline.stages.config import StageConfig
from pipeline.stages.tile_children import tile_children


@pytest.fixture
def on(monkeypatch):
    """Puts this process on a node of a cluster, which has others too."""

    def put(machine_cores, cpus, gpus, held):
        class Context:
            def get_node_id(self):
                return "here"

        nodes = {"head": {}, "here": {"CPU": float(cpus), "GPU": float(gpus)}, "cpus": {"CPU": 64.0}}
        monkeypatch.setattr(os, "cpu_count", lambda: machine_cores)
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(ray, "get_runtime_context", Context)
        monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": name, "Resources": has} for name, has in nodes.items()])
        monkeypatch.setattr(ray, "get_gpu_ids", lambda: list(range(held)))

    return put


def config(**settings):
    return StageConfig(None, 0, None, "", "", **settings)


@pytest.mark.parametrize(
    ("cores", "cpus", "gpus", "held", "share", "children"),
    [
        (32, 32, 2, 1, 1.0, 15),  # of 96 cores in the cluster, the head's none and the node's without a GPU left out
        (16, 16, 1, 1, 0.25, 3),  # four of them have 12, and 4 cores drive the GPU
        (16, 16, 4, 2, 1.0, 7),
        (100, 100, 1, 1, 0.29, 28),  # by floats 0.29 of 100 is less than 29
        (64, 8, 1, 1, 1.0, 7),  # a container
        (4, 16, 1, 1, 1.0, 3),  # Ray was told of more cores than there are
        (1, 1, 1, 1, 1.0, 1),
        (2, 2, 8, 1, 0.1, 1),
    ],
)
def test_a_gpu_has_its_part_of_the_cores_of_its_node(on, cores, cpus, gpus, held, share, children):
    on(cores, cpus, gpus, held)
    assert tile_children(config(device="cuda", gpu_share=share)) == children
    assert tile_children(config(device="cuda", gpu_share=share, tile_decoders=2)) == min(2, cores)


@pytest.mark.parametrize(("threads", "children"), [(3, 3), (8, 4), (None, 1)])
def test_on_a_cpu_they_share_the_cores_of_the_threads(monkeypatch, threads, children):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert tile_children(config(threads=threads)) == children
    assert tile_children(config(threads=threads, tile_decoders=9)) == 4


def test_without_ray_the_machine_is_the_node(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert tile_children(config(device="cuda")) == 7
