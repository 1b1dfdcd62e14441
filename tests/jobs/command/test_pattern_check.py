"""What a user reads about a key pattern before any work begins."""

import pytest

from jobs.command.errors import UsageError
from jobs.command.pattern_check import check_pattern, lines_of, proposal
from pipeline.input.config import SourceConfig
from pipeline.input.keys import KeyPattern
from pipeline.input.pattern_fit import PatternFit, pattern_fit

PATTERN = "{line}/{date}/{lot}/{name}"
GOOD = [f"a/2024-06-0{day}/L{lot}/{name}.png" for day in (3, 4) for lot in (1, 2) for name in range(3)]


@pytest.fixture
def source(tmp_path):
    def call(names, pattern=PATTERN, **options):
        for name in names:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return SourceConfig(input_uri=f"file://{tmp_path}/in", key_pattern=pattern, **options)

    return call


@pytest.fixture
def said(source):
    return lambda *args, **options: lines_of(pattern_fit(source(*args, **options)))


def test_what_is_read_is_shown_by_three_different_examples(said):
    assert said(GOOD) == [
        f"key pattern {PATTERN}: 12 of 12 paths match",
        "  a/2024-06-03/L1/0.png: line a, date 2024-06-03, lot L1",
        "  a/2024-06-03/L2/0.png: line a, date 2024-06-03, lot L2",
        "  a/2024-06-04/L2/0.png: line a, date 2024-06-04, lot L2",
    ]


def test_only_the_first_are_counted_where_there_are_more(said):
    lines = said([f"a/2024-06-03/L1/{number:04}.png" for number in range(1001)])
    assert lines == [
        f"key pattern {PATTERN}: 1,000 of the first 1,000 paths match",
        "  a/2024-06-03/L1/0000.png: line a, date 2024-06-03, lot L1",
    ]


@pytest.mark.parametrize(
    ("names", "pattern", "fix"),
    [
        (
            ["line1/2024-06-03/x.jpg"],
            PATTERN,
            "None of 1 fits it, such as line1/2024-06-03/x.jpg. '{line}/{date}/{name}' would fit",
        ),
        (["x.jpg", "y.jpg"], PATTERN, "None of 2 fits it, such as x.jpg. Correct it, or leave it out."),
        (["L1/7_top.jpg"], "{lot}/{serial}_{camera}.png", "'{lot}/{serial}_{camera}.jpg' would fit that one."),
        ([f"{number:04}.jpg" for number in range(1000)], PATTERN, "None of the first 1,000 fits it, such as 0000.jpg."),
    ],
)
def test_a_pattern_that_fits_nothing_is_one_line_with_a_better_one(source, names, pattern, fix):
    with pytest.raises(UsageError) as caught:
        check_pattern(source(names, pattern))
    line = str(caught.value)
    assert line.startswith("key_pattern must be a pattern of the paths below file:///") and "\n" not in line
    assert f"got {pattern!r}. None of " in line and fix in line


def test_an_inherited_pattern_may_fit_nothing(source, capsys):
    check_pattern(source(["x.jpg"]), "challenge_pattern", must_fit=False)
    assert capsys.readouterr().out == (
        f"warning: challenge pattern {PATTERN}: none of 1 paths matches, such as x.jpg: its key columns stay empty, and its "
        "date is none\n"
    )


def test_without_a_pattern_there_is_nothing_to_say(source, capsys):
    check_pattern(source(["x.jpg"], None))
    assert capsys.readouterr().out == ""


def test_litter_alone_is_no_reason_to_refuse(source, capsys):
    check_pattern(source(["a.txt", "b.json"]))
    assert capsys.readouterr().out == f"key pattern {PATTERN}: not tried, as 2 names are no images that can be read\n"
    check_pattern(SourceConfig(input_uri="/none", key_pattern=PATTERN))
    assert capsys.readouterr().out == ""


def test_shards_that_were_not_opened_far_enough_are_said():
    source = SourceConfig(input_uri="/in", key_pattern=PATTERN)
    said = f"key pattern {PATTERN}: not tried (3 shards of which only members could tell were not opened)"
    assert lines_of(PatternFit(source, [], 3, 3, False)) == [said]


@pytest.mark.parametrize(
    ("names", "pattern", "warning"),
    [
        (
            [*GOOD, "b/x.png"],
            PATTERN,
            "1 of these paths do not match, such as b/x.png: its key columns stay empty, and its date is",
        ),
        (
            ["line1/2024-06-03/L1/x.png", "line1/2024-06-03/L2/y.png"],
            "{lot}/{name}",
            "lot is line1 in all of them, and {name} takes folders, such as 2024-06-03/L1: give each folder that tells",
        ),
        (
            ["line1/2024-06-03/L1/x.png", "line2/2024-06-03/L2/y.png"],
            "{lot}/{name}",
            "the day 2024-06-03 in line1/2024-06-03/L1/x.png is not read, and the images are published under date none",
        ),
        (
            ["a/June/L1/x.png"],
            PATTERN,
            "{date} is no day such as 2024-06-03 in 1 of these paths, such as June in a/June/L1/x.png",
        ),
        (["a/2024-13-45/L1/x.png"], PATTERN, "{date} is no day such as 2024-06-03 in 1 of these paths, such as 2024-13-45 in"),
        (
            ["a/2024-06-03/L1/x.png"],
            "{date}/{line}/{lot}/{name}",
            "{date} is no day such as 2024-06-03 in 1 of these paths, such as a in a/2024-06-03/L1/x.png",
        ),
        (["s=__HIVE_DEFAULT_PARTITION__/x.png"], "s={date}/{name}", "1 of these paths have no date, such as s=__HIVE"),
    ],
)
def test_what_looks_wrong_is_one_warning(said, names, pattern, warning):
    warnings = [line for line in said(names, pattern) if line.startswith("warning: ")]
    assert len(warnings) == 1 and warnings[0].startswith(f"warning: {warning}"), warnings


@pytest.mark.parametrize(
    ("names", "pattern", "options"),
    [
        (["L1/cam1/1.png", "L2/cam1/1.png"], "{lot}/{name}", {}),  # folders below lots, which differ
        (["L1/2024-06-03/1.png", "L2/2024-06-03/1.png"], "{lot}/{name}", {"date": "2024-06-04"}),  # the day is given
        (["L1/1.png", "L1/2.png"], "{lot}/{name}", {}),
        (["a/2024-06-03/L1/000.tar", "a/2024-06-03/L1/001.tar"], PATTERN, {}),  # {name} takes shard and member
    ],
)
def test_what_is_meant_is_not_warned_of(said, names, pattern, options):
    assert not [line for line in said(names, pattern, **options) if line.startswith("warning: ")]


def test_shards_that_were_not_opened_are_told(source):
    """And what is shown of names that hold more than one line is one line."""
    fit = pattern_fit(source(["L1\n/1.png"], "{lot}/{name}"))
    lines = lines_of(fit.__class__(fit.source, fit.read, 17, 18, True))
    assert lines[0].endswith("1 of 1 paths match (17 shards of which only members could tell were not opened)")
    assert lines[1] == r"  'L1\n/1.png': lot 'L1\n'"


@pytest.mark.parametrize(
    ("pattern", "path", "better"),
    [
        (PATTERN, "line=3/date=2024-06-03/L1/x.png", "line={line}/date={date}/{lot}/{name}"),
        ("{hall}/{line}/{date}/{lot}/{name}", "line1/2024-06-03/x.png", "{hall}/{date}/{name}"),
        ("{lot}/{name}.png", "7/x.tiff", "{lot}/{name}.tiff"),
        ("{lot}.d/{name}", "7/x.png", "{lot}/{name}"),
        ("{lot}/{name}", "x.png", None),
        ("line={line}/{name}", "score=3/x.png", None),  # the name of a table's column
        ("{line}/{lot}/{name}.tif", "a/2026-06-02/L1/000.png", "{line}/{date}/{lot}/{name}"),
    ],
)
def test_a_proposal_fits(pattern, path, better):
    assert proposal(KeyPattern(pattern), path) == better
    assert better is None or KeyPattern(better).match(path)
