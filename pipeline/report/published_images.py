"""Finds images of the tables by image_id: where each is stored, and what scored it last."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from pipeline.report.facts import complete
from schemas import scores

COLUMNS = ("image_id", "uri", "member", "content_hash", "score", "model", "model_digest", "calibration_digest")


class NoSuchImage(ValueError):
    """No row of the tables is of this image."""


@dataclass(frozen=True)
class PublishedImage:
    """The newest row of an image in `scores`. config: of its scoring run.  others: further models that have scored it."""

    image_id: str
    uri: str
    member: str | None
    content_hash: str | None
    score: float
    model: str
    model_digest: str
    calibration_digest: str | None
    config: dict[str, Any]
    others: tuple[str, ...]


def published_images(
    connection: duckdb.DuckDBPyConnection, output: str, image_ids: Sequence[str], model: str | None = None
) -> list[PublishedImage]:
    """The images in the order of their ids.

    Args:
        connection: with the views of pipeline/tables/query.py.  output: for messages.
        model: name of the model whose rows count; None for any.
    Raises:
        NoSuchImage: names the first id without a row, and its error if the image could not be scored.
    """
    rows = connection.execute(
        f"select {', '.join(f's.{name}' for name in COLUMNS)}, r.config, models from "
        f"(select *, list(model) over (partition by image_id) as models from {complete(connection, 'scores', scores.SCHEMA)} "
        "where image_id in $ids) s join runs r on s.run_id = r.run_id where s.model = coalesce($model, s.model) "
        "qualify row_number() over (partition by s.image_id order by s.scored_at desc, s.model) = 1",
        {"ids": list(image_ids), "model": model},
    ).fetchall()
    found = {row[0]: row for row in rows}
    for image_id in image_ids:
        if image_id not in found:
            raise NoSuchImage(_unknown(connection, output, image_id, model))
    return [_image(*found[image_id]) for image_id in image_ids]


def _image(*row: Any) -> PublishedImage:
    *plain, config, models = row
    named = dict(zip(COLUMNS, plain, strict=True))
    others = tuple(sorted(set(models) - {named["model"]}))
    return PublishedImage(**named, config=json.loads(config), others=others)


def _unknown(connection: duckdb.DuckDBPyConnection, output: str, image_id: str, model: str | None) -> str:
    of_model = f" by model {model}" if model else ""
    said = f"image_id must be that of an image scored{of_model} in {output}; got {image_id!r}"
    failed = connection.execute(
        "select uri, member, error, message from errors where image_id = ? limit 1", [image_id]
    ).fetchall()
    if failed:
        ((uri, member, error, message),) = failed
        return f"{said}, which could not be scored: {error}, {message} ({member or uri}). Mend it and score it again"
    scored_by = connection.execute("select distinct model from scores where image_id = ? order by all", [image_id]).fetchall()
    if scored_by:
        return f"{said}, which was scored by {', '.join(name for (name,) in scored_by)}. Give one of these as --model"
    return f'{said}. Ask for it: flowscore query --output {output} "select image_id, uri, member, score from scores"'
