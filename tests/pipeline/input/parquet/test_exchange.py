import json

import pytest

from pipeline.input.parquet.exchange import Cells, Close, Failed, Open, Opened, Read, Rows, answer_of, line_of, request_of


@pytest.mark.parametrize(
    "told",
    [
        Read(3, 5),
        Opened(3, [(1, 10), (2, 20)]),
        Cells(["a", None], [3, None], 3),
        Cells([], [], 0),
        Failed("corrupt_shard", "x"),
    ],
)
def test_answers_arrive_as_they_were(told):
    assert answer_of(line_of(told)) == told


@pytest.mark.parametrize("told", [Open("k", 9, None, "id", 1, 2, 3.0), Rows(1, 2, 3, True), Close()])
def test_requests_arrive_as_they_were(told):
    assert request_of(line_of(told)) == told


@pytest.mark.parametrize(
    "told",
    [
        *([], 3, None, {}, ["Read"], ["Read", -1, 5], ["Read", 0, 0], ["Read", 0, 1 << 40], ["Opened", 1, [[1]]]),
        *(["Opened", 1, [["x", 1]]], ["Cells", ["a"], [], 0], ["Cells", [1], [1], 1], ["Cells", ["a"], [-1], 1]),
        *(["Failed", "an error of its own", "x"], ["Rows", 1, 2, 3, True]),
    ],
)
def test_what_is_no_answer_is_refused(told):
    with pytest.raises((ValueError, TypeError)):
        answer_of(json.dumps(told).encode() + b"\n")
