"""The root of what models raises. The whole tree of our exceptions stands in jobs/command/errors.py."""


class ModelError(ValueError):
    """What `models` raises for a reason that its user can mend; the message is a sentence."""


class NoSuchDevice(ModelError):
    """A device that this machine does not have, or that is none."""
