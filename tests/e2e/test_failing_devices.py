"""The scoring command on devices that fail: out of memory, illegal accesses, hangs, kills, at a batch and while it loads."""

import pytest
import yaml
from deltalake import DeltaTable
from e2e_archives import encoded, write_files
from failing_devices import HANG, ILLEGAL, KILL, MEMORY_ONCE, MEMORY_TWICE, Plan, happened, run

TWENTY = Plan((MEMORY_TWICE, KILL, HANG, MEMORY_ONCE, ILLEGAL) * 3 + (MEMORY_TWICE, MEMORY_ONCE, ILLEGAL), loading=2)
UNIT = 4


@pytest.fixture
def score(tmp_path, model):
    """Scores so many images with a plan; what the command said."""

    def scored(images, plan):
        write_files(tmp_path / "in", {f"{i:03d}.png": encoded(i) for i in range(images)})
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"source": {"unit_images": UNIT}}))
        places = ("--model", model, "--input", tmp_path / "in", "--output", tmp_path / "out")
        return run(
            *(tmp_path / "plan", plan, "score", *places),
            *("--config", tmp_path / "config.yaml", "--device", "cuda", "--address", "auto"),
        )

    return scored


def names(output):
    """Names of the scored images; there must be no error."""
    assert not (output / "errors").exists() or DeltaTable(str(output / "errors")).to_pyarrow_table().num_rows == 0
    return sorted(uri.split("/")[-1] for uri in DeltaTable(str(output / "scores")).to_pyarrow_table()["uri"].to_pylist())


def lines(done, word):
    return [line for line in (done.stdout + done.stderr).splitlines() if word in line]


def test_a_device_that_always_fails_is_named_and_left_out(score, tmp_path):
    done = score(48, Plan(always=("0",)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(tmp_path / "out") == [f"{i:03d}.png" for i in range(48)]
    (left_out,) = lines(done, "is left out")
    assert "GPU 0 of node" in left_out and "uncorrectable ECC error" in left_out and "advice" not in left_out
    ends = lines(done, "this process ends")
    assert len(ends) == 3 and all("GPU 0 of node" in line for line in ends)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_survives_twenty_faults(score, tmp_path):
    done = score(160, TWENTY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert names(tmp_path / "out") == [f"{i:03d}.png" for i in range(160)]
    assert happened(tmp_path / "plan") == len(TWENTY.computing) + TWENTY.loading == 20
    for said in ("too little memory", "illegal memory access", "the device hangs", "initialization error"):
        assert lines(done, said), said


@pytest.mark.slow
def test_a_run_without_a_device_that_works_ends_with_a_line_that_names_them(score, tmp_path):
    done = score(48, Plan(always=("0", "1")))
    assert done.returncode == 5, done.stdout + done.stderr
    (line,) = lines(done, "a device must be left that works")
    assert "GPU 0 of node" in line and "GPU 1 of node" in line and "repeat the command" in line
    assert "Traceback" not in done.stdout + done.stderr
