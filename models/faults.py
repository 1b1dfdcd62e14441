"""The root exception of models. The whole tree of our exceptions stands in jobs/command/errors.py."""


class ModelError(ValueError):
    """A fault in `models` that its user can mend; the message is a sentence."""


class NoSuchDevice(ModelError):
    """A device that this machine does not have, or that is none."""


class VerdictError(ModelError):
    """Numbers from which no verdict, interval or chart can be made as asked."""
