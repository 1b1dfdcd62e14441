"""Every wrong command ends with exit 2 and one line, writes nothing, and starts neither Ray nor, mostly, torch."""

import importlib
import os
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from wrong_invocations import ROWS, Places, Wrong, make_places

from jobs.cli import verbs
from jobs.command.entry import run

ROOT = Path(__file__).parents[2]
ALL_LIGHT = """
import io, shlex, sys
from contextlib import redirect_stderr
from importlib import import_module
from jobs.command.entry import run
for line in sys.stdin.read().splitlines():
    verb, *arguments = shlex.split(line)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            run(import_module(f"jobs.{verb}").main, arguments)
    except SystemExit as ended:
        assert ended.code == 2, (line, said.getvalue())
    loaded = {"torch", "ray", "timm"} & set(sys.modules)
    assert not loaded, f"{line} loads {loaded}"
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return make_places(tmp_path_factory.mktemp("places"))


def filled(text: str, places: Places) -> str:
    return text.format(**asdict(places))


def files_below(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("wrong", ROWS, ids=lambda wrong: f"{wrong.verb} {wrong.arguments}")
def test_a_wrong_command_is_one_line(wrong: Wrong, places: Places, tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("FLOWSCORE_ASSETS", raising=False)
    monkeypatch.chdir(tmp_path)
    before = files_below(places.good.parent)
    with pytest.raises(SystemExit) as ended:
        run(importlib.import_module(f"jobs.{wrong.verb}").main, shlex.split(filled(wrong.arguments, places)))
    lines = capfd.readouterr().err.splitlines()
    assert ended.value.code == 2, lines
    assert len(lines) == 1 and lines[0].startswith("error: ") and filled(wrong.says, places) in lines[0], lines
    assert files_below(places.good.parent) == before and not list(tmp_path.iterdir()), "nothing is written"
    assert not ("ray" in sys.modules and sys.modules["ray"].is_initialized())


def test_every_verb_is_tried_and_at_least_sixty_commands() -> None:
    assert {wrong.verb for wrong in ROWS} == set(verbs())
    assert len(ROWS) >= 60


def test_what_needs_no_torch_and_no_ray_loads_none(places: Places) -> None:
    """In one process, so that whatever any of these commands loads is seen."""
    commands = [f"{wrong.verb} {filled(wrong.arguments, places)}" for wrong in ROWS if wrong.light]
    ended = subprocess.run(
        [sys.executable, "-c", ALL_LIGHT], input="\n".join(commands), cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("scroe", "--model", "m"), "verb must be one of bench, calibrate,"),
        (("train", "--epoch", "3"), "option must be one of `flowscore train`; got '--epoch'. Did you mean --epochs?"),
        (("query", "--output", "x", "select", "1"), "command line must be options with their values"),
        (("finalize", "--output", "{new}"), "--output must be that of a scoring run"),
        # DuckDB is loaded, and would speak of leaks if anything were left of the error at the end.
        (("rekey", "--model", "tiles", "--output", "{out}", "--key-pattern", "{{line"), "must have its braces in pairs"),
    ],
)
def test_as_a_process(places: Places, arguments: tuple[str, ...], says: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *(filled(part, places) for part in arguments)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1 and says in ended.stderr, ended.stderr
