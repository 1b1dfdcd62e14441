"""A program's own handler of SIGTERM outlives the start of Ray, which sets one that exits and one that prints a stack."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """Around `ray.init`: the handler that was there before is there again afterwards. A SIGTERM meanwhile goes to it too,
    though Ray has turned it into an exit by then. A program without a handler of its own gets Ray's."""
    own = signal.getsignal(signal.SIGTERM)
    if not callable(own) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit as ended:
        if ended.code == signal.SIGTERM:
            own(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, own)
