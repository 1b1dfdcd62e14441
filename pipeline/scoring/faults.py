"""The root of what the room scoring raises. The whole tree stands in jobs/command/errors.py."""


class ScoringError(ValueError):
    """This process cannot score the images of the run; what it would give are not the model's scores."""


class WrongDevice(ScoringError):
    """The process has another device than the one that was decided for it."""


class ReplayDiffers(ScoringError):
    """A captured graph gives other results than the computation that it was captured from."""


class DeviceFault(ScoringError):
    """The device failed, or has too little memory. Its process cannot use it any more and must end."""


class NoMemory(DeviceFault):
    """The device had too little memory for something twice. What can be left out may be left out."""
