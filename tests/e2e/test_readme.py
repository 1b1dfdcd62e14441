"""Every command in the documents parses with the program that it calls; test_demo.py runs the main ones."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from jobs.command.entry import application

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = ("flowscore", "make", "ray", "python")


def blocks(language):
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield page.name, text


def commands():
    """(page, words) of each command in the plain code blocks; a backslash continues a line."""
    for page, text in blocks(""):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if line.startswith(PROGRAMS) else []
            if words and words[0] in PROGRAMS:
                yield page, words


COMMANDS = list(commands())


def parse(verb, arguments):
    """Parse the arguments and fill the settings as the verb does, without running it; raises the error that it would print."""
    main = importlib.import_module(f"jobs.{verb}").main
    found = []

    def kept(settings):
        found.append(settings)

    kept.__annotations__ = main.__annotations__
    files = [argument for argument in arguments if argument.endswith((".yaml", ".yml"))]
    command = typer.main.get_command(application(kept))
    with command.make_context(f"flowscore {verb}", list(arguments)) as context:
        if not files:  # an example's file does not exist
            command.invoke(context)
            assert found


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words[:2])}" for page, words in COMMANDS])
def test_the_command_parses(page, words):
    program, *arguments = words
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=60)
    elif program == "ray":
        assert arguments[:2] == ["job", "submit"]
        start = arguments.index("--")
        environment = arguments[arguments.index("--runtime-env") + 1]
        assert (ROOT / environment).is_file()
        assert arguments[start + 1 : start + 3] == ["python", "-m"]
        parse(arguments[start + 3].removeprefix("jobs."), arguments[start + 4 :])
    elif program == "python" and arguments[0] == "-m":
        parse(arguments[1].removeprefix("jobs."), arguments[2:])
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    else:
        parse(arguments[0], arguments[1:])


def test_every_verb_is_shown_in_the_readme():
    from jobs.cli import verbs

    shown = {words[1] for page, words in COMMANDS if page == "README.md" and words[0] == "flowscore"}
    assert shown == set(verbs())


def test_the_two_make_commands_come_first():
    assert [words for page, words in COMMANDS if page == "README.md"][:2] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize(("page", "text"), list(blocks("python")))
def test_python_examples_parse(page, text):
    ast.parse(text)


def test_the_python_of_the_readme_runs_as_it_stands(tmp_path):
    (text,) = (text for page, text in blocks("python") if page == "README.md")
    assert len([line for line in text.splitlines() if line]) == 5
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    good, scratched = map(float, done.stdout.strip("[]\n").split())
    assert scratched > good > 0


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 100


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_error_codes_are_those_that_the_pipeline_writes():
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    begin = page.index("| error | meaning |")
    table = page[begin : page.index("`message` says", begin)]
    codes = {code for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)}
    files = [path for room in ("pipeline", "schemas") for path in (ROOT / room).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert codes and not {code for code in codes if f'"{code}"' not in source}
    written = set(re.findall(r'(?:Undecodable|Fault)\(\s*"(\w+)"', source))
    assert written <= codes


def test_the_exit_codes_are_those_of_the_program():
    from jobs.command.errors import ExitCode

    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode if code not in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)} | {1}
