"""The root of what the rooms input and sources raise. The whole tree stands in jobs/command/errors.py."""


class InputError(Exception):
    """An input as a whole, or one of its shards, is wrong."""
