"""The root of what the room stages raises. The whole tree stands in jobs/command/errors.py."""


class StagesError(ValueError):
    """Ray cannot run the stages as requested."""
