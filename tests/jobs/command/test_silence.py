import threading

import pytest

from jobs.command.progress import duration
from jobs.command.silence import Doing, Ticker


@pytest.mark.parametrize(
    ("doing", "text"),
    [
        (Doing("listing", 100.0), "listing, for 12 s"),
        (Doing("whitening", 100.0, 0, 1200), "whitening, 0/1,200 images, for 12 s"),
        (Doing("whitening", 100.0, 400, 1200), "whitening, 400/1,200 images, 24 s left"),
        (Doing("factors", 100.0, 16, 16, "positions"), "factors, 16/16 positions, for 12 s"),
    ],
)
def test_what_is_done_and_how_long_it_takes(doing, text):
    assert doing.text(112.0, duration) == text


def test_a_ticker_calls_until_it_is_stopped():
    called, calls = threading.Event(), []
    ticker = Ticker(lambda: (calls.append(1), len(calls) > 2 and called.set()), every_s=0.001)
    ticker.start()
    assert called.wait(30)
    ticker.stop()
    assert "flowscore-ticker" not in {thread.name for thread in threading.enumerate()}
    Ticker(lambda: None).stop()  # never started
