"""What the driver of a scoring run imports: it waits for each of these before it does anything."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "absent"),
    [("jobs.score", {"torch", "timm", "scipy", "pandas", "ray"}), ("pipeline.stages.dataset", {"torch", "timm"})],
)
def test_what_is_slow_to_import_comes_with_what_needs_it(module, absent):
    code = f"import sys, {module}; print(*{absent!r} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
