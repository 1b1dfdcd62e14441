"""What the driver of a scoring run imports, which it waits for before it does anything; and what it checks first."""

import subprocess
import sys

import pytest

from jobs.command.entry import run
from jobs.score import main


@pytest.mark.parametrize(
    ("module", "absent"),
    [("jobs.score", {"torch", "timm", "scipy", "pandas", "ray"}), ("pipeline.stages.dataset", {"torch", "timm"})],
)
def test_what_is_slow_to_import_comes_with_what_needs_it(module, absent):
    code = f"import sys, {module}; print(*{absent!r} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--address", "127.0.0.1:1"), "error: address must be that of a Ray cluster that runs; got '127.0.0.1:1'"),
        (("--address", "http://127.0.0.1:8265"), "error: address must be host:port of the head"),
        (("--output", "out/o%20x"), "error: output must be a place whose name Delta tables can have; got 'out/o%20x'"),
    ],
)
def test_surroundings_are_checked_before_anything_is_opened(capsys, monkeypatch, flags, said):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as ended:
        run(main, ["--model", "/none", "--input", "/none", "--output", "/none/out", *flags])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and shown.startswith(said) and shown.count("\n") == 1
