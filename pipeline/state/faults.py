"""The root of what the room state raises. The whole tree stands in jobs/command/errors.py."""


class StateError(Exception):
    """What is wrong with the state of a scoring run on storage, or with who drives it."""
