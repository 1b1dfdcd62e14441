"""How a verb's `main` becomes a command: `python -m jobs.score ...` and `flowscore score ...` both end up in `run`.

A verb is a file jobs/<verb>.py with a function `main(settings: ScoreSettings)`, whose one parameter is a settings model
(jobs/command/flags.py derives the flags from its fields), and as its last lines:

    if __name__ == "__main__":
        run(main)
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
from pydantic import BaseModel

from jobs.command.config import load
from jobs.command.errors import UNFORESEEN, ExitCode, exit_code, sentence
from jobs.command.flags import flags_of, nested, only_in_the_file
from jobs.command.log import Log, kept
from jobs.command.scratch import check_scratch
from jobs.command.stopping import Stopping


def run(main: Callable[..., None], arguments: Sequence[str] | None = None, name: str | None = None) -> NoReturn:
    """Parse the arguments (default: sys.argv), call `main`, and exit with a code of errors.py.

    An error that has an exit code becomes one line on stderr. Any other exception is a bug and keeps its traceback. The last
    line of a log is the code and what it means.
    """
    with kept() as log:
        with Stopping() as stopping:
            try:
                code = _ended(main, arguments, name, log)
            except KeyboardInterrupt:
                code = ExitCode.INTERRUPTED
            if stopping.received:
                code = ExitCode.TERMINATED
        log.close(code)
    sys.exit(code)


def _ended(main: Callable[..., None], arguments: Sequence[str] | None, name: str | None, log: Log) -> int:
    """The exit code of the command, whose errors are printed."""
    try:
        check_scratch()
        application(main)(args=arguments, prog_name=name)
    except SystemExit as ended:  # typer ends so, also after Ctrl-C, and a verb may
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:
        code = exit_code(error)
        if code is not None:
            print(f"error: {sentence(error)}", file=sys.stderr)
            return code
        if not log.begun:
            raise
        traceback.print_exc()
        return UNFORESEEN
    return ExitCode.OK


def application(main: Callable[..., None]) -> typer.Typer:
    """The program of a verb; `typer.main.get_command` gives its parser."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=inspect.getdoc(main) or inspect.getdoc(inspect.getmodule(main)))(_with_flags(main))
    return app


def _with_flags(main: Callable[..., None]) -> Callable[..., None]:
    """A function for typer with one parameter a flag. A flag wins over the file of --config, which wins over defaults."""
    kinds = [parameter.annotation for parameter in inspect.signature(main, eval_str=True).parameters.values()]
    if len(kinds) != 1 or not (isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel)):
        return main
    model = kinds[0]
    flags = flags_of(model)

    def parsed(**given: Any) -> None:
        main(load(model, given.pop("config", None), **nested(flags, given)))

    parameters = []
    for flag in flags:
        default: Any = None
        if flag.name is None:
            default = typer.Argument(None, help=flag.help, metavar=flag.path[-1].upper(), show_default=False)
        else:
            default = typer.Option(None, flag.name, help=flag.help, metavar=flag.metavar, show_default=False)
        parameters.append(_parameter(flag.path[-1], flag.kind, default))
    if further := only_in_the_file(model):
        default = typer.Option(None, "--config", help=f"YAML file with these settings, and {', '.join(further)}")
        parameters.append(_parameter("config", Path, default))
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it; functions declare none
    return parsed


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
