"""The `flowscore` command. It only dispatches: `flowscore VERB ...` is `python -m jobs.VERB ...`.

The folder is the registry: a file here that defines `main` at top level is a verb, and its docstring's first line is
its help. Files are parsed, not imported, so that `flowscore --help` does not wait for torch and Ray.
"""

import ast
import difflib
import importlib
import sys
from pathlib import Path
from typing import NoReturn

from jobs.command.entry import run
from jobs.command.errors import ExitCode
from schemas.version import VERSION


def verbs() -> dict[str, str]:
    """Every verb with its one-line help."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.stem != "cli" and any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> NoReturn:
    """Entry point of the `flowscore` command."""
    arguments = sys.argv[1:]
    known = verbs()
    if not arguments or arguments[0] in ("-h", "--help"):
        print("Usage: flowscore VERB [OPTIONS]\n\nScore archives of inspection images with normalizing flows.\n")
        for verb, sentence in known.items():
            print(f"  {verb:<10} {sentence}")
        print("\n`flowscore VERB --help` lists a verb's options.")
        sys.exit(ExitCode.OK)
    if arguments[0] == "--version":
        print(VERSION)
        sys.exit(ExitCode.OK)
    verb = arguments[0]
    if verb not in known:
        near = difflib.get_close_matches(verb, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`flowscore --help` says what each does."
        print(f"error: verb must be one of {', '.join(known)}; got {verb!r}. {hint}", file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    run(importlib.import_module(f"jobs.{verb}").main, arguments[1:], name=f"flowscore {verb}")


if __name__ == "__main__":
    main()
