"""The exception for an image that cannot be scored, and what a library's error means for it."""

import struct
import zlib

from PIL import UnidentifiedImageError

MESSAGE_LENGTH = 300  # limit for a library's message; some quote the file
FAULTS = (  # what Pillow's plugins raise for damaged files, found by damaging files
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(RuntimeError, ZeroDivisionError, MemoryError, AssertionError, struct.error, zlib.error),
)
NO_MEMORY = ("insufficient memory", "out of memory", "decoder error -9")  # words of libjpeg, of Pillow, and of Pillow for TIFF


class DecodeError(Exception):
    """The root of what the room decode raises: an image cannot be scored, or there is no decoder."""


class Undecodable(DecodeError):
    """The image cannot be scored; `error` is the reason code, the message a sentence."""

    def __init__(self, error: str, message: str):
        super().__init__(message)
        self.error = error


def unsupported(kind: str) -> Undecodable:
    """The fault of a whole file of a kind that is not read."""
    return Undecodable("unsupported_format", f"the file is {kind}, which is not read; docs/formats.md lists what is")


def damaged(name: str, error: BaseException) -> Undecodable:
    """What an error of a library means for the image, by its type and words."""
    reason = str(error)[:MESSAGE_LENGTH] or type(error).__name__
    if isinstance(error, MemoryError) or any(words in reason.lower() for words in NO_MEMORY):
        return Undecodable("too_much_memory", f"decoding the {name} takes more memory than the decoder may have")
    if isinstance(error, UnidentifiedImageError):  # the message of this error holds a memory address
        reason = "its header cannot be read"
    cut = any(word in reason.lower() for word in ("truncated", "premature end of jpeg", "eof"))
    return Undecodable("truncated" if cut or isinstance(error, EOFError) else "corrupt", f"the {name} is damaged: {reason}")
