"""docs/benchmarks/gpu/verify.py from its bundle, on a machine that has no GPU, no Ray and none of our storage libraries."""

import json
import os
import subprocess
import sys

import pytest
from docs_script import load

DETECTORS = {"csflow", "padim", "fastflow", "cflow", "differnet", "patchsvdd"}
MISSING = ("ray", "obstore", "deltalake", "duckdb", "s3fs", "botocore", "captum", "psutil", "pandas", "typer", "jinja2")
ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys({missing!r}))
sys.path = [path for path in sys.path if path and path != {repository!r}]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.argv = [{script!r}, "--device", "cpu", "--save", {lines!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif("FLOWSCORE_ASSETS" not in os.environ, reason="needs the reference data: set FLOWSCORE_ASSETS")
def test_every_case_holds_on_a_cpu_or_says_that_it_needs_a_gpu(tmp_path):
    made = load("benchmarks/gpu/bundle.py")
    made.main(tmp_path / "bundle", python=None)
    lines, script = tmp_path / "lines.jsonl", tmp_path / "bundle/docs/benchmarks/gpu/verify.py"
    code = ALONE.format(missing=MISSING, repository=str(made.ROOT), script=str(script), lines=str(lines))
    left = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FLOWSCORE_ASSETS")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=left, capture_output=True, text=True, timeout=600)

    found = [json.loads(line) for line in lines.read_text().splitlines()]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.splitlines() == lines.read_text().splitlines()
    assert found[-1] == {"case": "closing", "ok": True, "device": "cpu", "failed": []}
    proven = {(line["case"], line["precision"]) for line in found if line["case"].startswith("correctness") and line["ok"]}
    assert proven == {(f"correctness-{name}", precision) for name in DETECTORS for precision in ("float32", "fp16")}
    again = {line["detector"] for line in found if line["case"] == "second-process" and line["ok"]}
    assert again == DETECTORS
    assert {line["case"] for line in found if line.get("needs")} >= {"fault-device_assert", "four-shares", "profile-b5-768"}
    assert [line["ok"] for line in found if line["case"] == "training-twice"] == [True]
    assert not [line for line in found if "left_out" in line]


def test_a_bundle_goes_into_no_folder_that_holds_something(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(SystemExit, match="BUNDLE must be new or empty"):
        load("benchmarks/gpu/bundle.py").main(tmp_path, python=None)
