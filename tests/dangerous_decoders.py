"""Decoders that do to their process what the image says, and the rows of images that tests of decoding give to one."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows, Fault

DECODER = """
import os, signal, time
from pipeline.decode.image import decode_image

def decode(encoded, config):
    match encoded.split(b" ")[0]:
        case b"segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"exit":
            os._exit(3)
        case b"raise":
            raise LookupError("odd tag")
        case b"killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"once":
            _, pid, encoded = encoded.split(b" ", 2)
            if os.getpid() == int(pid):
                os.kill(os.getpid(), signal.SIGKILL)
        case b"hang":
            time.sleep(1000)
        case b"slow":
            time.sleep(0.3)
    return decode_image(encoded.removeprefix(b"slow "), config)
"""


def installed(folder: Path, name: str, patch: pytest.MonkeyPatch, source: str = DECODER) -> str:
    """Make the source importable as module `name` in the folder; gives the decoder as `decode_in_child` takes it."""
    (folder / f"{name}.py").write_text(source)
    patch.syspath_prepend(str(folder))
    return f"{name}:decode"


def table(contents: Sequence[bytes | Fault], suffix: str = "png") -> pa.Table:
    """Rows of schemas/encoded.py, an image or a fault each."""
    rows = EncodedRows("s3://b", SourceConfig(input_uri="s3://b"))
    for number, content in enumerate(contents):
        rows.add(f"{number}.{suffix}", content, None)
    return rows.table()
