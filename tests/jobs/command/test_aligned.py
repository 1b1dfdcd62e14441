import pytest

from jobs.command.aligned import aligned


def test_columns_begin_below_each_other_and_no_line_ends_in_blanks():
    lines = aligned([["name", "figure", "more"], ["a", "12.5 (3.0-20.1)", ""], ["longest", "-", "x"]])
    assert [line.index(word) for line, word in zip(lines, ("figure", "12.5", "-"), strict=True)] == [9, 9, 9]
    assert all(line == line.rstrip() for line in lines)


def test_lines_of_different_lengths_are_no_table():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        aligned([["a", "b"], ["c"]])
