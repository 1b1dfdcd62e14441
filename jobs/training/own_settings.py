"""A detector's own settings, from `training` and `hyperparameters` of a --config file."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from jobs.command.errors import UsageError

if TYPE_CHECKING:
    from models.detector import Detector


def training_of(detector: "Detector", settings: dict[str, Any]) -> BaseModel:
    """The detector's own settings of fit, with its defaults filled in. Raises UsageError."""
    try:
        return detector.Training.model_validate(settings)
    except ValidationError as error:
        raise wrong("training", error, detector.Training) from None


def wrong(section: str, error: ValidationError, model: type[BaseModel] | None = None) -> UsageError:
    """The first fault of a section, in one line; `model` says which keys there are."""
    fault = error.errors()[0]
    field = ".".join([section, *map(str, fault["loc"])])
    if fault["type"] == "extra_forbidden":
        known = f"one of {', '.join(model.model_fields)}" if model and model.model_fields else "a setting of this detector"
        return UsageError(f"key of {section}", known, fault["loc"][-1], "Remove it, or choose another detector.")
    return UsageError(
        field, fault["msg"].removeprefix("Input should be "), fault["input"], "Change it in the file of --config."
    )
