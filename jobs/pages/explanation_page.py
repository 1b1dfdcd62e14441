"""The page of `flowscore explain`: for every image its maps, the one that can be trusted most first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from models.explain.trust import Standing


@dataclass(frozen=True)
class ShownMap:
    """One map. picture: its file beside the page.  figures: of the deletion test, in words."""

    method: str
    picture: str
    standing: Standing
    figures: str


@dataclass(frozen=True)
class ShownImage:
    """One image. score: in words.  advice: which of its maps to trust.  maps: the most trusted first."""

    name: str
    score: str
    advice: str
    maps: Sequence[ShownMap]


def page(model: str, model_digest: str, cost: str, left_out: dict[str, str], images: Sequence[ShownImage]) -> str:
    """HTML that loads nothing but the pictures beside it.

    Args:
        cost: a sentence on the time that the test takes.  left_out: images without maps, and why.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("explanations.html.j2")
    return template.render(model=model, model_digest=model_digest, cost=cost, left_out=left_out, images=images)
