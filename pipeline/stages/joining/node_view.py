"""What a node can do with the input and the output, tried on it by the code that works there, and compared with the driver."""

import json
import uuid
from collections.abc import Callable
from typing import Literal, NamedTuple

from pipeline.input.config import SourceConfig
from pipeline.input.listing import open_input
from pipeline.storage.credentials import way_to_s3
from pipeline.storage.objects import Gone, Object, StorageError, Unreachable
from pipeline.storage.store import open_store

Step = Literal["list the input", "read the input", "list the output", "read the output", "write to the output"]


class Places(NamedTuple):
    """What a node is to reach.

    first: the first object of the input, as the driver lists it; None of an empty input.
    lists: whether the input is to be listed. It is not where a file says what it holds: storage may refuse to list then.
    probe: key of an object that the driver has put into the output; a node writes beside it.
    """

    source: SourceConfig
    first: Object | None
    output_uri: str
    probe: str
    lists: bool = True

    def as_json(self) -> str:
        """For `of_json` on a node."""
        return json.dumps(self._replace(source=self.source.model_dump(mode="json"))._asdict())  # type: ignore[arg-type]

    @classmethod
    def of_json(cls, text: str) -> "Places":
        """Raises what its parts raise for other text."""
        given = json.loads(text)
        first = None if given["first"] is None else Object(*given["first"])
        return cls(**given | {"source": SourceConfig.model_validate(given["source"]), "first": first})


class Lack(NamedTuple):
    """A step that failed. said: what storage answered.  way: how the node reaches storage, in words.  away: it did not answer,
    and may do so later."""

    step: Step
    uri: str
    said: str
    way: str
    away: bool = False

    @property
    def on_s3(self) -> bool:
        return on_s3(self.uri)


def lacks(places: Places) -> list[Lack]:
    """The steps that fail in this process; one a place, since the others would only repeat it. Five requests if none fails."""
    return [*_first_that_fails(_input_steps(places)), *_first_that_fails(_output_steps(places))]


Steps = list[tuple[Step, str, Callable[[], object]]]


def _input_steps(places: Places) -> Steps:
    source, first = places.source, places.first

    def listed() -> None:
        next(iter(open_input(source).list()), None)

    def read() -> None:
        if first is not None:
            open_input(source).get_range(first.key, 0, 1)

    steps: Steps = [("list the input", source.input_uri, listed), ("read the input", source.input_uri, read)]
    return steps if places.lists else steps[1:]


def _output_steps(places: Places) -> Steps:
    uri, probe = places.output_uri, places.probe

    def listed() -> None:
        next(iter(open_store(uri).list(probe)), None)

    def read() -> None:
        open_store(uri).get(probe)

    def write() -> None:
        open_store(uri).put_new(f"{probe}-{uuid.uuid4().hex}", b"1")

    return [("list the output", uri, listed), ("read the output", uri, read), ("write to the output", uri, write)]


def _first_that_fails(steps: Steps) -> list[Lack]:
    for step, uri, attempt in steps:
        try:
            attempt()
        except StorageError as error:
            said = f"{error}; the driver sees it" if isinstance(error, Gone) else str(error)
            return [Lack(step, uri, said, way_to_s3() if on_s3(uri) else "its own disks", isinstance(error, Unreachable))]
    return []


def on_s3(uri: str) -> bool:
    return uri.startswith("s3://")
