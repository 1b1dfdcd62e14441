"""What the decoder's process and its parent tell each other arrives as it was sent."""

from datetime import UTC, datetime

import pytest

from pipeline.decode.config import DecodeConfig
from pipeline.decode.exchange import DecodedRow, Request, rows_line, rows_of
from schemas.commit import DECODED
from schemas.encoded import FAILURE

CONFIG = DecodeConfig(height=24, width=32, resize="tile", scale=0.5, white_level=4095, timezone="Asia/Kathmandu")


@pytest.mark.parametrize(
    "request_sent",
    [
        Request(CONFIG, 2, 4096, 0.5, (7, 0)),
        Request(CONFIG, 3, 8192, 60.0, origins=((0, 8), (16, 24)), last=True),
        Request(CONFIG, 0, 8, 1.0, origins=()),
    ],
)
def test_requests(request_sent):
    line = request_sent.line()
    assert line.count("\n") == 1 and line.endswith("\n") and Request.of(line) == request_sent


def test_rows():
    taken = datetime(2026, 7, 1, 12, 0, 0, 250_000, UTC)
    rows = [
        DecodedRow(40, 30, taken, 127.5, 3.25, 0.1),
        DecodedRow(40, 30, None, 1 / 3, 0.0, 0.0),
        DecodedRow.failed("corrupt", 'the PNG is damaged: "é"\n\u2028'),
        DecodedRow(),
    ]
    line = rows_line(rows)
    assert line.count("\n") == 1 and rows_of(line) == rows and rows_of(rows_line([])) == []


def test_a_row_has_the_columns_of_the_schemas():
    columns = [field.name for field in [*DECODED, *FAILURE]]
    assert list(DecodedRow._fields) == [name for name in columns if name != "byte_offset"], "offsets are the sources' alone"
