"""A kill in the midst of a publication."""

from pipeline.state.numbered import Numbered
from pipeline.tables import publication


class Stopped(BaseException):
    """A kill."""


def stops(real, here):
    """The function, which is killed at the calls whose arguments `here` picks."""

    def call(*args):
        if here(*args):
            raise Stopped
        return real(*args)

    return call


def stop_publication(patched, step):
    """Let publications be killed before their manifest, before the change of a table of that name, or before their seal."""
    patched.setattr(publication, "_put", stops(publication._put, lambda *_: step == "manifest"))
    patched.setattr(publication, "_changed", stops(publication._changed, lambda _, name, *more: name == step))
    sealing = stops(Numbered.put_new, lambda of, *_: step == "seal" and of.prefix.endswith("published"))
    patched.setattr(Numbered, "put_new", sealing)
