"""The root of what the room stages raises. The whole tree stands in jobs/command/errors.py."""


class StagesError(ValueError):
    """Ray cannot run the stages as requested."""


LOOK = "Give workers more memory or fewer neighbours (resources), or look into Ray's logs, and repeat the command"


class ScorerRefuses(StagesError):
    """A scorer cannot score on the device that was decided for it; the message says on which node, and why."""


class WorkersDie(StagesError):
    """Workers end before their work does, and no image is at fault; the same command goes on where it stopped."""


class DevicesFail(WorkersDie):
    """No device is left on which scorers live; the same command goes on where it stopped."""


class SetAside(StagesError):
    """A unit that a scorer does not try again, since its device failed with it; the run scores it alone."""
