import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cli import verbs

ROOT = Path(__file__).parents[2]


def flowscore(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_lists_every_verb_with_one_sentence():
    result = flowscore("--help")
    assert result.returncode == 0
    for verb, sentence in verbs().items():
        assert sentence and sentence in result.stdout
        assert f"  {verb} " in result.stdout


def test_help_imports_no_verb():
    code = "import sys; from jobs import cli; cli.verbs(); print(sorted({'torch', 'ray', 'pyarrow'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[]"


def test_an_unknown_verb_lists_the_valid_ones_and_ends_with_2():
    result = flowscore("docter")
    assert result.returncode == 2
    assert "got 'docter'. Did you mean 'doctor'?" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unknown_option_ends_with_2():
    result = flowscore("doctor", "--modle", "x")
    assert result.returncode == 2
    assert "--modle" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_verb_has_help_and_a_runnable_file(verb):
    result = flowscore(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert f"Usage: flowscore {verb}" in result.stdout
    assert 'if __name__ == "__main__":\n    run(main)' in (ROOT / "jobs" / f"{verb}.py").read_text()


def test_usage_errors_are_one_line_and_bugs_keep_their_traceback(tmp_path):
    script = tmp_path / "verb.py"
    script.write_text(
        "from jobs.command.entry import run\nfrom jobs.command.errors import UsageError, PartialRunError\n"
        "def main(kind: str) -> None:\n"
        "    raise {'usage': UsageError('a', 'b', 1, 'c.'), 'partial': PartialRunError('rerun')}.get(kind, KeyError('x'))\n"
        "run(main)\n"
    )

    def end(kind):
        return subprocess.run(
            [sys.executable, script, kind],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert (end("usage").returncode, end("usage").stderr) == (2, "error: a must be b; got 1. c.\n")
    assert (end("partial").returncode, end("partial").stderr) == (5, "error: rerun\n")
    assert end("bug").returncode == 1 and "Traceback" in end("bug").stderr
