"""Each call of a scorer has decoders of its own, and all are used."""

import threading

import pytest

from pipeline.decode.children import Children
from pipeline.decode.config import DecodeConfig


@pytest.mark.parametrize(("count", "shares"), [(2, [1, 1]), (3, [1, 2]), (8, [4, 4])])
def test_calls_share_the_children(count, shares):
    children = Children(DecodeConfig(height=8, width=8, resize="tile"), 5, count, 2)
    for _ in range(2):
        with children.taken() as mine, children.taken() as theirs:
            assert sorted([len(mine), len(theirs)]) == shares and not set(mine) & set(theirs)


def test_units_take_turns_where_there_is_one_child():
    children = Children(DecodeConfig(height=8, width=8, resize="tile"), 5, 1, 2)
    entered = threading.Event()

    def other():
        with children.taken() as mine:
            assert len(mine) == 1
            entered.set()

    with children.taken():
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    thread.join()


def test_an_error_gives_the_children_back():
    children = Children(DecodeConfig(height=8, width=8, resize="tile"), 5, 1, 2)
    with pytest.raises(KeyError), children.taken():
        raise KeyError
    with children.taken() as mine:
        assert len(mine) == 1
