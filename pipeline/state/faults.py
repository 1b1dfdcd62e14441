"""The root of what the room state raises. The whole tree stands in jobs/command/errors.py."""


class StateError(Exception):
    """The state of a scoring run on storage is wrong, or another driver has the run."""
