"""How a verb's `main` becomes a command: `python -m jobs.score ...` and `flowscore score ...` both end up in `run`.

A verb is a file jobs/<verb>.py with a function `main` whose parameters are typer options, and as its last lines:

    if __name__ == "__main__":
        run(main)
"""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import typer

from jobs.command.errors import ExitCode, exit_code, sentence
from jobs.command.scratch import check_scratch


def run(main: Callable[..., None], arguments: Sequence[str] | None = None, name: str | None = None) -> NoReturn:
    """Parse the arguments (default: sys.argv), call `main`, and exit with the code that errors.py names.

    An error of errors.py is one line on stderr. Any other exception is a bug and keeps its traceback.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=inspect.getdoc(main) or inspect.getdoc(inspect.getmodule(main)))(main)
    try:
        check_scratch()
        app(args=arguments, prog_name=name)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(code)
    sys.exit(ExitCode.OK)
