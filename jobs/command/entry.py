"""How a verb's `main` becomes a command: `python -m jobs.score ...` and `flowscore score ...` both end up in `run`.

A verb is a file jobs/<verb>.py with a function `main(settings: ScoreSettings)`, whose one parameter is a settings model
(jobs/command/flags.py derives the flags from its fields; its BELOW_HELP stands below the options), and as its last lines:

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
from jobs.command.errors import UNFORESEEN, ExitCode, UsageError, exit_code, sentence
from jobs.command.flags import flags_of, nested, only_in_the_file
from jobs.command.log import Log, kept
from jobs.command.misread import MISREAD, misread
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
            if stopping.received and code == ExitCode.INTERRUPTED:  # else the signal came too late, or got lost
                code = ExitCode.TERMINATED
        log.close(code)
    sys.exit(code)


def _ended(main: Callable[..., None], arguments: Sequence[str] | None, name: str | None, log: Log) -> int:
    """The exit code of the command, whose errors are printed."""
    try:
        check_scratch()
        ended = application(main)(args=arguments, prog_name=name, standalone_mode=False)
    except SystemExit as ending:  # a verb may end so
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except Exception as error:
        told = misread(error, name or f"flowscore {Path(sys.argv[0]).stem}") if isinstance(error, MISREAD) else error
        code = exit_code(told)
        if code is not None:
            print(f"error: {sentence(told)}", file=sys.stderr)
        elif not log.begun:
            raise
        else:
            traceback.print_exc()
        if _came_of_an_interrupt(error):
            return ExitCode.INTERRUPTED
        return UNFORESEEN if code is None else code
    return ended or ExitCode.OK  # typer gives 130 after Ctrl-C


def _came_of_an_interrupt(error: BaseException | None) -> bool:
    """Whether something was closed in vain after a signal, such as files in storage that does not answer."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def application(main: Callable[..., None]) -> typer.Typer:
    """The program of a verb; `typer.main.get_command` gives its parser."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    below = getattr(_settings_of(main), "BELOW_HELP", None)
    help = inspect.getdoc(main) or inspect.getdoc(inspect.getmodule(main))
    app.command(help=help, epilog=f"\b\n{below}" if below else None)(_with_flags(main))
    return app


def _settings_of(main: Callable[..., None]) -> type[BaseModel] | None:
    """The settings model that is the one parameter of a verb's main."""
    kinds = [parameter.annotation for parameter in inspect.signature(main, eval_str=True).parameters.values()]
    return kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel) else None


def _with_flags(main: Callable[..., None]) -> Callable[..., None]:
    """A function for typer with one parameter a flag. A flag wins over the file of --config, which wins over defaults."""
    model = _settings_of(main)
    if model is None:
        return main
    flags = flags_of(model)

    def parsed(**given: Any) -> None:
        for flag in flags:
            value = given[flag.path[-1]]
            if isinstance(value, str) and not value.strip():  # what a script passes for a variable that is not set
                fix = "Give it one, or leave it out."
                raise UsageError(flag.name or flag.path[-1], "given with a value", value, fix)
        main(load(model, given.pop("config", None), **nested(flags, given)))

    parameters = []
    for flag in flags:
        default: Any = None
        if flag.name is None:
            default = typer.Argument(None, help=flag.help, metavar=flag.path[-1].upper(), show_default=False)
        else:
            metavar = flag.metavar or ("PATH" if flag.kind is Path else None)
            default = typer.Option(None, flag.name, help=flag.help, metavar=metavar, show_default=False)
        parameters.append(_parameter(flag.path[-1], str if flag.kind is Path else flag.kind, default))
    if further := only_in_the_file(model):
        default = typer.Option(None, "--config", help=f"YAML file with these settings, and {', '.join(further)}")
        parameters.append(_parameter("config", Path, default))
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it; functions declare none
    return parsed


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
