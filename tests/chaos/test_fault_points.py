"""Faults at seeded requests of a run: kills between any two storage calls, and every fault of a network."""

import pytest
from points import points


@pytest.fixture(scope="session")
def chosen(laboratory, pytestconfig):
    requests = {scenario: whole.requests for scenario, whole in laboratory.whole.items()}
    return points(requests, pytestconfig.getoption("--chaos-points"), pytestconfig.getoption("--chaos-seed"))


@pytest.mark.slow
def test_the_same_command_again_makes_it_whole(point_number, chosen, laboratory, record):
    point = chosen[point_number]
    output = laboratory.new_output(point.scenario, f"p{point_number:05d}")
    outcome = laboratory.experiment(output, point)
    laboratory.forget(output)
    record(point_number, point, outcome)
    assert not outcome.faults, f"{point}: " + "\n".join(outcome.faults)
