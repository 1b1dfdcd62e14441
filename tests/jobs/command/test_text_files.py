"""Lists and tables as Notepad, Excel and scripts of any system save them."""

import codecs

import pytest

from jobs.command.config import load
from jobs.command.errors import UsageError
from jobs.command.text_files import Row, read_lines, read_table, read_text
from jobs.score import ScoreSettings

LINES = ["grün/a b.jpg", "# a comment", "", "  中.png  ", "c,d.jpg"]
KEPT = ["grün/a b.jpg", "中.png", "c,d.jpg"]
ENCODINGS = {
    "plain": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16 le": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16 be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32 le": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "utf-32 be": lambda text: codecs.BOM_UTF32_BE + text.encode("utf-32-be"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
def test_lines_of_every_system(tmp_path, encoding, end):
    path = tmp_path / "list.txt"
    path.write_bytes(ENCODINGS[encoding](end.join(LINES) + end))
    assert read_lines("--exclude", path) == KEPT


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_every_excel(tmp_path, encoding, separator):
    path = tmp_path / "groups.csv"
    quoted = f'"test/good/a{separator}b ""1"".jpg"'
    rows = [
        separator.join(row) for row in (("Path", "Piece", "note"), ("x.jpg", " 7 ", ""), (quoted, '"8,5"', "n"), ("", "", ""))
    ]
    path.write_bytes(ENCODINGS[encoding]("\r\n".join(rows) + "\r\n"))
    found = read_table("--groups", path, ("path", "group"))
    assert found == [Row(2, ("x.jpg", "7", "")), Row(3, (f'test/good/a{separator}b "1".jpg', "8,5", "n"))]


def test_the_line_that_excel_reads_its_separator_from(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_bytes(codecs.BOM_UTF8 + b"sep=;\r\npath;group\r\na,b.jpg;1\r\n")
    assert read_table("--groups", path, ("path", "group")) == [Row(3, ("a,b.jpg", "1"))]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("a.jpg\nB\u00fc.jpg\n".encode("cp1252"), "Line 2 has the byte 0xfc, which is 'ü' in Windows-1252. Save it as UTF-8."),
        (codecs.BOM_UTF8 + "ö\n".encode("cp1252"), "Line 1 has the byte 0xf6, which is 'ö' in Windows-1252"),
        ("5 \u20ac.jpg".encode("cp1252"), "Line 1 has the byte 0x80, which is '€' in Windows-1252"),
        ("a.jpg\r\n".encode("utf-16-le"), "zero bytes, like UTF-16 without a mark"),
        (codecs.BOM_UTF16_LE + b"a\0b", "It says UTF-16 and is not"),
        (b"\x89PNG\r\n\x1a\n\0\0", "Line 1 has the byte 0x89"),
    ],
)
def test_what_cannot_be_read_names_its_line(tmp_path, body, said):
    path = tmp_path / "list.txt"
    path.write_bytes(body)
    for read in (read_text, read_lines, lambda flag, path: read_table(flag, path, ("path", "group"))):
        with pytest.raises(UsageError) as caught:
            read("--exclude", path)
        assert str(caught.value).startswith("--exclude must be a ") and said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got 'an empty file'. Name the first column"),
        ("image,group\na,1\n", "got 'image, group'. Name the first column"),
        ("path\na.jpg\n", "got 'path'"),
        ("path|group\na|1\n", "got 'path|group'"),
        ("path,group\na.jpg,1\nb.jpg\n", "got 'b.jpg'. Complete line 3 of"),
        ("path,group\n" + "x" * 200_000 + ",1\n", "Line 2: field larger than field limit"),
    ],
)
def test_what_is_no_table_of_groups(tmp_path, text, said):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_table("--groups", path, ("path", "group"))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_settings_saved_by_notepad(tmp_path, encoding):
    path = tmp_path / "score.yaml"
    path.write_bytes(ENCODINGS[encoding]("model: m\r\noutput: ö\r\ninput: i\r\n"))
    assert load(ScoreSettings, path).output == "ö"


def test_settings_in_another_encoding_are_one_line(tmp_path):
    path = tmp_path / "score.yaml"
    path.write_bytes("model: m\noutput: ö\n".encode("cp1252"))
    with pytest.raises(UsageError, match="--config must be a YAML file in UTF-8.* Line 2 has the byte 0xf6"):
        load(ScoreSettings, path)
