"""`decode_unit` in a child process, so that an image which crashes or hangs the decoder costs one row, not the run."""

import atexit
import threading

import numpy as np
import pyarrow as pa

from pipeline.decode.config import DecodeConfig
from pipeline.decode.exchange import DecodedRow
from pipeline.decode.handle import Decoder, Lost
from pipeline.decode.unit import Decoded, decoded_table

DECODE = "pipeline.decode.image:decode_image"
KILLED_TRIES = 3  # SIGKILL comes from outside, mostly when memory runs out: try again before blaming an image

_lock = threading.Lock()
_decoders: dict[str, Decoder] = {}


def decode_in_child(table: pa.Table, config: DecodeConfig, timeout_s: float, decode: str = DECODE) -> Decoded:
    """As `decode_unit`; an image that ends the decoder's process becomes a row with `decoder_crashed`, one that takes
    longer than `timeout_s` seconds a row with `decoder_timeout`.

    The child says which image it is at. When it dies, fresh children decode the images before that one, that one alone,
    and the images after it: an image is blamed for a crash only when it was alone. The child
    stays for the next unit and ends with this process. `decode` (`module:function`) is for tests.

    Raises DecoderUnavailable when no child can be started.
    """
    pixels = np.zeros((table.num_rows, config.height, config.width, 3), np.uint8)
    rows = [DecodedRow()] * table.num_rows
    pending = [[index for index, cell in enumerate(table["encoded"]) if cell.is_valid]]
    killed = 0
    with _lock:
        while pending:
            indices = pending.pop()
            if not indices:
                continue
            images = [table["encoded"][index].as_buffer() for index in indices]
            answer = _decoder(decode, config.max_decode_bytes).decode(images, config, timeout_s, pixels, indices)
            if not isinstance(answer, Lost):
                for index, row in zip(indices, answer, strict=True):
                    rows[index] = row
                continue
            before, suspect, after = indices[: answer.at], indices[answer.at : answer.at + 1], indices[answer.at + 1 :]
            killed = killed + 1 if answer.by_kill and len(indices) == 1 else 0
            if answer.by_timeout or (len(indices) == 1 and killed in (0, KILLED_TRIES)):
                error = "decoder_timeout" if answer.by_timeout else "decoder_crashed"
                rows[suspect[0]] = DecodedRow.failed(error, answer.message)
                suspect, killed = [], 0
            pending += [after, suspect, before]
    return Decoded(pixels, decoded_table(table, rows))


def _decoder(decode: str, max_decode_bytes: int) -> Decoder:
    found = _decoders.get(decode)
    if found is not None and found.usable() and found.max_decode_bytes < max_decode_bytes:
        found.end()
    if found is None or not found.usable():
        found = _decoders[decode] = Decoder(decode, max_decode_bytes)
    return found


@atexit.register
def _end_all() -> None:
    for decoder in _decoders.values():
        if decoder.usable():
            decoder.end()
