"""Says in one sentence what the parser of a command line refuses: typer's own messages take three lines or a box."""

import difflib
from typing import Any

import typer

from jobs.command.errors import UsageError

MISREAD: Any = typer.BadParameter.__base__
"""The root of what the parser refuses; typer shows only this one of its exceptions."""


def misread(error: Any, command: str) -> UsageError:
    """The error of an option that is unknown, lacks its value or has one of another type, or of a word that is no option."""
    lists = f"`{command} --help` lists the options"
    name = getattr(error, "option_name", None)
    if hasattr(error, "possibilities"):
        options = [option for each in error.ctx.command.params for option in each.opts]
        near = difflib.get_close_matches(name, options, n=1)
        return UsageError("option", f"one of `{command}`", name, f"Did you mean {near[0]}?" if near else f"{lists}.")
    if name is not None:
        switch = "not take" in error.message
        rule, fix = ("given without a value", "It is a switch.") if switch else ("given with a value", f"{lists}.")
        return UsageError(name, rule, "one" if switch else None, fix)
    parameter = getattr(error, "param", None)
    if parameter is not None:
        rule = error.message.removeprefix("Input should be ").rstrip(".")
        got = error.__cause__.errors()[0]["input"] if error.__cause__ is not None else None
        return UsageError(parameter.opts[0], rule, got, f"{lists}.")
    fix = f"Quote a value that has spaces, and give every option its value; {lists}."
    return UsageError("command line", "options with their values", error.message.rstrip("."), fix)
