"""A model, a laboratory and a report for all tests here. tests/conftest.py has the options."""

import csv

import numpy as np
import pytest
from conftest import new_bucket
from e2e_archives import command, encoded, with_threshold, write_files
from experiment import Laboratory
from fault_proxy import FaultProxy

from flowscore import score


def pytest_generate_tests(metafunc):
    if "point_number" in metafunc.fixturenames:
        metafunc.parametrize("point_number", range(metafunc.config.getoption("--chaos-points")))


def pytest_terminal_summary(terminalreporter):
    calls = [call for outcome in ("passed", "failed") for call in terminalreporter.stats.get(outcome, [])]
    points = [call for call in calls if "test_fault_points.py" in call.nodeid and call.when == "call"]
    if points:
        well, spent_s = sum(call.passed for call in points), sum(call.duration for call in points)
        terminalreporter.write_line(f"{well} of {len(points)} fault points ended as an uninterrupted run, in {spent_s:.0f} s")


@pytest.fixture(scope="session")
def marking_model(tmp_path_factory):
    """A CS-Flow, trained for one epoch, that finds regions in about a third of images like those it was trained on."""
    folder = tmp_path_factory.mktemp("model")
    write_files(folder / "good", {f"{i:03d}.png": encoded(7 * i + 1) for i in range(40)})
    # A small flow: every output gets a copy of the model, and the S3 server has its objects in memory.
    (folder / "small.yaml").write_text("hyperparameters: {hidden: 16, whiten_dims: 32, kernels: [3]}")
    command(
        *("train", "--detector", "csflow", "--input", folder / "good", "--model-out", folder / "plain"),
        *("--backbone", "mobilenetv1_100", "--weights", "none", "--image-size", "64", "--epochs", "1"),
        *("--calibration-share", "0", "--selection-share", "0", "--device", "cpu", "--name", "tiny", "--seed", "0"),
        *("--config", folder / "small.yaml"),
    )
    maxima = [anomaly_map.max() for anomaly_map in score(folder / "plain", folder / "good").anomaly_map]
    return str(with_threshold(folder / "plain", folder / "model", float(np.quantile(maxima, 2 / 3))))


@pytest.fixture(scope="session")
def laboratory(s3, marking_model, tmp_path_factory):
    with FaultProxy(s3) as proxy:
        yield Laboratory(proxy, new_bucket(), marking_model, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="session")
def record(request):
    """Writes a line of the report: the deed and the outcome."""
    path = request.config.getoption("--chaos-report")
    if path is None:
        yield lambda *cells: None
        return
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["point", "what", "exits", "struck", "requests", "result"])

        def write(number, what, outcome):
            result = "; ".join(fault.splitlines()[0] for fault in outcome.faults) or "as uninterrupted"
            exits, requests = (" ".join(map(str, numbers)) for numbers in (outcome.exits, outcome.requests))
            writer.writerow([number, str(what), exits, outcome.struck, requests, result])
            file.flush()

        yield write
