import pytest

from pipeline.stages.cluster import Resources
from pipeline.stages.devices import places, untried


def node(gpus, cpus=16.0, alive=True):
    return {"Alive": alive, "Resources": {"GPU": gpus, "CPU": cpus}}


@pytest.mark.parametrize(
    ("gpus", "cpus", "nodes", "wanted"),
    [
        (1.0, 1.0, [node(2.0), node(1.0)], 3),
        (0.4, 1.0, [node(2.0)], 4),  # a share never lies on two GPUs
        (0.4, 4.0, [node(2.0, cpus=8.0)], 2),  # cores run out first
        (2.0, 1.0, [node(3.0), node(3.0)], 2),
        (1.0, 0.1, [node(4.0, cpus=0.3)], 3),
        (1.0, 1.0, [node(4.0, alive=False), {"Alive": True, "Resources": {"CPU": 8.0}}], 0),
    ],
)
def test_places_of_scorers(gpus, cpus, nodes, wanted):
    assert places(nodes, Resources(scorer_gpus=gpus, scorer_cpus=cpus)) == wanted


def test_a_run_that_has_tried_some_of_the_gpus_says_so():
    assert untried(2, 2) == untried(3, 2) == ""
    assert untried(1, 2).endswith("resources.scorers must be 2 to use all of them; got 1")
