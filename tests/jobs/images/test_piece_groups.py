"""Which piece an image shows, by a table that people write."""

import pytest

from jobs.command.errors import UsageError
from jobs.images.names import meant, nearest, spellings
from jobs.images.piece_groups import PieceGroups


def table(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_bytes(text.encode())
    return PieceGroups(path)


def test_spellings_of_windows_excel_and_macos(tmp_path):
    text = (
        "\ufeffpath;group\r\ntest\\good\\x.jpg;a\r\n./test/bad/y.jpg;b\r\ntest/bad/gru\u0308n.jpg;c\r\ntest/bad/gone.jpg;d\r\n"
    )
    groups = table(tmp_path, text)
    assert [groups.of(path) for path in ("test/good/x.jpg", "test/bad/y.jpg", "test/bad/gr\u00fcn.jpg")] == ["a", "b", "c"]
    assert groups.unused() == 1


def test_without_a_table_an_image_is_its_own_piece():
    assert PieceGroups(None).of("test/good/x.jpg") == "test/good/x.jpg" and PieceGroups(None).unused() == 0


def test_an_image_without_a_row_is_its_own_piece_and_one_with_two_is_refused(tmp_path):
    groups = table(tmp_path, "path,group\ngood/x.jpg,a\n")
    assert [groups.of(path) for path in ("test/good/x.jpg", "test/good/x.jpg", "good/x.jpg")] == ["test/good/x.jpg"] * 2 + ["a"]
    assert groups.lacking == 1 and groups.unused() == 0
    with pytest.raises(UsageError, match="names each image once; got 'a\\\\\\\\x.jpg'. Line 3"):
        table(tmp_path, "path,group\na/x.jpg,1\na\\x.jpg,2\n")


def test_what_a_line_may_mean():
    assert spellings("a.jpg") == {"a.jpg"}
    assert "a/b.jpg" in spellings('".\\a\\b.jpg"')
    assert nearest("X.JPG", ["b/y.jpg", "b/x.jpg"]) == "b/x.jpg"
    assert nearest("part_0012.png", ["part_0013.png", "other"]) == "part_0013.png" and nearest("q", ["part"]) is None


def test_five_lines_are_shown():
    assert meant(["b", "a"], []) == "'b', 'a'"
    assert meant(map(str, range(7)), []) == "'0', '1', '2', '3', '4' and 2 more"
    assert meant(["x.jpg"], ["a/x.jpg"]) == "'x.jpg' (did you mean 'a/x.jpg'?)"
