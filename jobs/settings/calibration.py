"""The settings of `flowscore calibrate`."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from jobs.command.flags import Flag
from models.verdicts.rates import rate_of
from pipeline.input.config import SourceConfig, SourceOptions
from pipeline.scoring.device import DeviceSetting


class CalibrateSettings(BaseModel):
    """Settings of `flowscore calibrate`: its flags, and those that only a --config file sets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Flag[str] = Field(description="the trained model: a folder or s3://bucket/prefix; the calibration goes there")
    input: Flag[str] = Field(
        description="good images. Those that train read: what it kept for calibration is used and the rest left out. Or "
        "others: refused if the model was fitted or selected on some of them"
    )
    key_pattern: Flag[str | None] = Field(None, description=str(SourceOptions.model_fields["key_pattern"].description))
    piece_key: Flag[str | None] = Field(
        None, description="key column, or several with commas, that names a piece; default: an image is a piece"
    )
    view_key: Flag[str | None] = Field(None, description="key column that names the view; default: there is one view")
    group_key: Flag[str | None] = Field(None, description="key column of the lot; default: lot, if every image has it")
    by: Flag[str | None] = Field(
        None, description="key columns, with commas, whose values are calibrated apart where they have enough pieces"
    )
    rates: Flag[str] = Field("0.1,0.05,0.01", description="false-alarm rates that will be used, with commas")
    challenge: Flag[str | None] = Field(None, description="images of pieces with known or seeded defects, to count finds")
    size_key: Flag[str | None] = Field(None, description="key column of --challenge that names the size of its defects")
    challenge_pattern: str | None = Field(None, description="key_pattern of the challenge; default: key_pattern")
    repeats: Flag[str | None] = Field(
        None, description="images of pieces that were taken out and imaged again, to see how far verdicts agree"
    )
    repeat_key: Flag[str | None] = Field(None, description="key column of --repeats that numbers the imagings of a piece")
    repeats_pattern: str | None = Field(None, description="key_pattern of the repeats; default: key_pattern")
    exclude: Flag[Path | None] = Field(None, description="file of keys to leave out, one a line, as given to train")
    members: Flag[str | None] = Field(None, description=str(SourceOptions.model_fields["members"].description))
    follow_links: Flag[bool] = Field(False, description=str(SourceOptions.model_fields["follow_links"].description))
    device: Flag[DeviceSetting] = Field(
        "auto", description="where images are scored; verdicts hold for scores of such a device only"
    )
    max_unreadable_share: float = Field(0.05, ge=0, le=1, description="share of images that may be unreadable")
    cache_dir: Path = Field(Path("~/.cache/flowscore"), description="folder that a remote model is copied to")

    @field_validator("rates", mode="before")
    @classmethod
    def _rates(cls, value: Any) -> str:
        """A list of a YAML file becomes text too; every rate is checked."""
        parts = value if isinstance(value, list | tuple) else [value]
        if any(not isinstance(part, str | int | float) for part in parts):  # YAML can stand for billions of values
            raise ValueError("rates must be numbers with commas between them; got something else. Write for example 0.05,0.01.")
        text = ",".join(map(str, parts))
        for part in text.split(","):
            rate_of(part)
        return text

    @field_validator("piece_key", "view_key", "group_key", "by", "size_key", "repeat_key")
    @classmethod
    def _names(cls, value: str | None) -> str | None:
        names = _split(value)
        if value is not None and (not names or len(set(names)) < len(names)):
            raise ValueError(f"keys must be names of key columns, each once; got {value!r}. Write for example line,lot.")
        return value

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        for field in ("view_key", "group_key", "size_key", "repeat_key"):
            if len(_split(getattr(self, field))) > 1:
                raise ValueError(f"{field} must be one key column; got {getattr(self, field)!r}. Choose one.")
        if self.size_key is not None and self.challenge is None:
            raise ValueError(f"challenge must be given with size_key; got size_key {self.size_key!r} alone. Add --challenge.")
        self._check_repeats()
        try:
            self.source_of_input()
            self.source_of_challenge()
            self.source_of_repeats()
        except ValidationError as error:
            raise ValueError(str(error.errors()[0]["ctx"]["error"])) from None
        return self

    def _check_repeats(self) -> None:
        if (self.repeats is None) != (self.repeat_key is None):
            given, lacking = ("repeats", "repeat_key") if self.repeat_key is None else ("repeat_key", "repeats")
            flag = lacking.replace("_", "-")
            raise ValueError(f"{lacking} must be given with {given}; got {given} {getattr(self, given)!r} alone. Add --{flag}.")
        if self.repeats is not None and self.piece_key is None:
            rule = "given with repeats, whose images of one piece are compared"
            raise ValueError(f"piece_key must be {rule}; got repeats {self.repeats!r} alone. Add --piece-key.")
        if self.repeat_key is not None and self.repeat_key.strip() in (*self.pieces(), (self.view_key or "").strip()):
            rule = "a key column that names neither the piece nor the view"
            raise ValueError(f"repeat_key must be {rule}; got {self.repeat_key!r}. Leave it out of piece_key and view_key.")

    def pieces(self) -> tuple[str, ...]:
        """The key columns that together name a piece; none if an image is one."""
        return _split(self.piece_key)

    def groups(self) -> tuple[str, ...]:
        """The key columns of --by."""
        return _split(self.by)

    def fractions(self) -> list[Fraction]:
        """The rates, exactly, in the order in which they were given."""
        return [rate_of(part) for part in self.rates.split(",")]

    def source_of_input(self) -> SourceConfig:
        """The input with the options that it is read with."""
        return self._source(self.input, self.key_pattern)

    def source_of_challenge(self) -> SourceConfig | None:
        """The challenge, if there is one, likewise."""
        return self._source(self.challenge, self.challenge_pattern or self.key_pattern) if self.challenge else None

    def source_of_repeats(self) -> SourceConfig | None:
        """The repeated imagings, if there are any, likewise."""
        return self._source(self.repeats, self.repeats_pattern or self.key_pattern) if self.repeats is not None else None

    def _source(self, uri: str, pattern: str | None) -> SourceConfig:
        return SourceConfig(input_uri=uri, key_pattern=pattern, members=self.members, follow_links=self.follow_links)


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())
