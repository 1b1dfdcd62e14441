"""Says before any work what a key pattern reads from the first paths of an input; a pattern that fits none is an error."""

from collections.abc import Callable

from jobs.command.errors import UsageError
from pipeline.input.config import NO_DATE, SourceConfig
from pipeline.input.keys import NAME, REST, KeyPattern, key_pattern
from pipeline.input.pattern_fit import LOOKED_AT, PathRead, PatternFit, pattern_fit
from schemas.days import is_day

EXAMPLES = 3


def check_pattern(source: SourceConfig, setting: str = "key_pattern", must_fit: bool = True) -> None:
    """Print what the source's pattern reads; nothing without a pattern.

    Args:
        setting: its name, for the message.
        must_fit: whether it was given for this input.
    Raises:
        UsageError: none of the first paths fits.
    """
    if source.key_pattern is not None:
        say_fit(pattern_fit(source), setting, lambda: must_fit)


def say_fit(fit: PatternFit, setting: str, must_fit: Callable[[], bool], say: Callable[[str], None] = print) -> None:
    """Say what was read, in lines. must_fit: asked only if nothing fits. Raises UsageError as above."""
    if fit.read and not fit.fitting and must_fit():
        raise _misfit(fit, setting)
    for line in lines_of(fit, setting):
        say(line)


def lines_of(fit: PatternFit, setting: str = "key_pattern") -> list[str]:
    """How many paths fit, what was read from three of them, and a warning for each thing that looks wrong.

    None of an input without objects, of which the run itself says it.
    """
    title = f"{setting.replace('_', ' ')} {fit.source.key_pattern}"
    if not fit.read and fit.unopened:
        return [f"{title}: not tried{_unopened(fit)}"]
    if not fit.read:
        return [f"{title}: not tried, as {_of(fit.listed, fit)} names are no images that can be read"] if fit.listed else []
    fitting = fit.fitting
    if not fitting:
        sample = _shown(fit.read[0].path)
        return [
            f"warning: {title}: none of {_of(len(fit.read), fit)} paths matches, such as {sample}: {_lost(fit, fit.read[0])}"
        ]
    lines = [f"{title}: {len(fitting):,} of {_of(len(fit.read), fit)} paths match{_unopened(fit)}"]
    lines += [f"  {_shown(path.path)}: {_values(fit, path)}" for path in _examples(fitting)]
    if misfits := [path for path in fit.read if path.keys is None]:
        sample = _shown(misfits[0].path)
        lines.append(f"warning: {len(misfits):,} of these paths do not match, such as {sample}: {_lost(fit, misfits[0])}")
    return lines + (_short(fit) or _days(fit))


def proposal(pattern: KeyPattern, path: str) -> str | None:
    """A pattern of the same fields that fits this path: with its suffix, or with a field for each of its folders; else None."""
    end = path.rpartition("/")[2].rpartition(".")[2]
    stem, dot, suffix = pattern.pattern.rpartition(".")
    candidates = [f"{stem}.{end}"] if dot and "{" not in suffix and "/" not in suffix else []
    fields = [field for field in pattern.fields if field not in ("date", REST)]
    parts: list[str] = []
    for folder in path.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if equals and NAME.fullmatch(name):
            parts.append(f"{name}={{{name}}}")
            fields = [field for field in fields if field != name]
        elif is_day(folder) and "{date}" not in parts:
            parts.append("{date}")
        elif fields:
            parts.append(f"{{{fields.pop(0)}}}")
    if parts:
        candidates.append("/".join([*parts, f"{{{REST}}}"]))
    fitting = [each for each in candidates if _fits(each, path)]
    # One with a field for each folder comes first: in the other {name} takes folders, and a lot may be what is a day.
    return next((each for each in fitting if each.count("/") == path.count("/")), next(iter(fitting), None))


def _fits(pattern: str, path: str) -> bool:
    try:
        return KeyPattern(pattern).match(path) is not None
    except ValueError:  # a folder `score=` would name a column of the tables
        return False


def _misfit(fit: PatternFit, setting: str) -> UsageError:
    pattern, path = key_pattern(fit.source.key_pattern or ""), fit.read[0].path
    better = proposal(pattern, path)
    fix = f"{better!r} would fit that one." if better else "Correct it, or leave it out."
    rule = f"a pattern of the paths below {fit.source.input_uri}"
    return UsageError(
        setting, rule, pattern.pattern, f"None of {_of(len(fit.read), fit)} fits it, such as {_shown(path)}. {fix}"
    )


def _of(count: int, fit: PatternFit) -> str:
    if fit.listed > LOOKED_AT:
        return f"{count:,} tried"
    return f"the first {count:,}" if fit.more and not fit.unopened else f"{count:,}"


def _unopened(fit: PatternFit) -> str:
    return f" ({fit.unopened:,} shards of which only members could tell were not opened)" if fit.unopened else ""


def _lost(fit: PatternFit, path: PathRead) -> str:
    """What becomes of a path that does not match."""
    date = f", and its date is {path.date}" if "date" in key_pattern(fit.source.key_pattern or "").fields else ""
    return f"its key columns stay empty{date}"


def _examples(fitting: list[PathRead]) -> list[PathRead]:
    """The first, the last and one between, of those from which different things are read."""
    different = {(path.date, *_columns(path).items()): path for path in reversed(fitting)}
    chosen = list(reversed(different.values()))
    last = len(chosen) - 1
    return [chosen[place] for place in sorted({last * part // (EXAMPLES - 1) for part in range(EXAMPLES)})]


def _columns(path: PathRead) -> dict[str, str]:
    return {name: value for name, value in (path.keys or {}).items() if name not in ("date", REST)}


def _values(fit: PatternFit, path: PathRead) -> str:
    """`line a, date 2024-06-03, lot L1`; {name} only where it holds folders, or nothing else is read."""
    fields, keys = key_pattern(fit.source.key_pattern or "").fields, path.keys or {}
    values = {field: path.date if field == "date" else keys.get(field, "null") for field in fields}
    if REST in values and not path.folders and len(values) > 1:
        del values[REST]
    return ", ".join(f"{field} {_shown(value)}" for field, value in values.items())


def _short(fit: PatternFit) -> list[str]:
    """A warning if the pattern seems to end too early: {name} takes folders everywhere, and a column has one value."""
    fitting = fit.fitting
    columns = [_columns(path) for path in fitting]
    same = [name for name, value in columns[0].items() if all(each.get(name) == value for each in columns)]
    if len(fitting) < 2 or not same or not all(path.folders for path in fitting):
        return []
    return [
        f"warning: {same[0]} is {_shown(columns[0][same[0]])} in all of them, and {{{REST}}} takes folders, such as "
        f"{_shown(fitting[0].folders)}: give each folder that tells something a field, as in {{line}}/{{date}}/{{lot}}/{{name}}"
    ]


def _days(fit: PatternFit) -> list[str]:
    """A warning if dates are no days, or if days in the paths are not read."""
    fitting = fit.fitting
    if "date" in key_pattern(fit.source.key_pattern or "").fields:
        undated = [path for path in fitting if path.date == NO_DATE]
        odd = [path for path in fitting if path.date != NO_DATE and not is_day(path.date)]
        lines = []
        if undated:
            lines.append(
                f"warning: {len(undated):,} of these paths have no date, such as {_shown(undated[0].path)}: they are published "
                f"under date {NO_DATE}. The date of a shard is read from its own path"
            )
        if odd:
            lines.append(
                f"warning: {{date}} is no day such as 2024-06-03 in {len(odd):,} of these paths, such as {_shown(odd[0].date)} "
                f"in {_shown(odd[0].path)}: it is kept as text, which drift and promote do not take for a night"
            )
        return lines
    days = [(path, folder) for path in fitting for folder in path.path.split("/")[:-1] if is_day(folder)]
    if not days or fit.source.date is not None:
        return []
    path, day = days[0]
    return [
        f"warning: the day {day} in {_shown(path.path)} is not read, and the images are published under date {NO_DATE}: "
        "call its folder {date} in the pattern"
    ]


def _shown(text: str) -> str:
    """One line, whatever the name of a file holds."""
    return text if text.isprintable() else repr(text)
