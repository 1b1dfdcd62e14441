"""The root of what the rooms input and sources raise. The whole tree stands in jobs/command/errors.py."""


class InputError(Exception):
    """What is wrong with an input as a whole, or with a shard of it."""
