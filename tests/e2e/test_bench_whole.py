"""`flowscore bench` end to end on a small case: its output, its files, and a plan from its own figures."""

import pytest
import yaml
from e2e_archives import encoded, write_files
from tiny_model import TINY_CASE

from jobs.bench import main
from jobs.benchmark.figures import measures, read
from jobs.command.entry import run

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(ray_here, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"cases": {"tiny": TINY_CASE}, "device": "cpu"}))
    fixed = ["--config", str(tmp_path / "config.yaml"), "--csv", str(tmp_path / "figures.csv"), "--seconds", "0"]

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            run(main, [*fixed, *arguments])
        shown = capsys.readouterr()
        assert ended.value.code == 0, shown.err
        return shown.out

    return call


def test_a_run_and_its_estimate(bench, tmp_path):
    asked = ("--case", "tiny", "--size", "80x60")
    shown = bench(
        *(*asked, "--measure", "end-to-end", "--store", str(tmp_path / "store"), "--images", "60", "--in-memory", "40"),
    )
    (kept,) = measures(read(tmp_path / "figures.csv"), case="tiny", measure="end-to-end", storage="file", stored_size="80x60")
    assert (kept["images"], kept["errors"]) == (80, 0)
    assert kept["whole_to_one_process"] == pytest.approx(kept["whole_run_per_s"] / kept["one_process_per_s"], abs=0.001)
    assert kept["estimate_error"] == pytest.approx(kept["estimated_s"] / kept["whole_run_s"] - 1, abs=0.01)
    assert 0 < kept["first_unit_s"] < kept["whole_run_s"] and kept["start_s"] < kept["estimated_s"]
    assert "limit: " in shown and "so the estimate is off by" in shown
    plan = bench(*asked, "--plan", "1000000", "--nodes", "2")
    assert "in-memory: measured now" in plan and "finalize from 1 run(s)" in plan
    assert [line.split()[0] for line in plan.splitlines()[-3:-1]] == ["1", "2"]


def test_images_and_a_model_of_the_users_own(bench, model, tmp_path):
    """Without cases there is one measure, named by the model."""
    write_files(tmp_path / "in", {f"{i:03d}.png": encoded(i) for i in range(12)})
    shown = bench("--model", str(model), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"))
    assert shown.count("== ") == 1 and "== tiny end-to-end cpu-" in shown
    (kept,) = measures(read(tmp_path / "figures.csv"), stored_size="")
    assert kept["images"] == 12
