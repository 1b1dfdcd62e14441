"""flowscore in one import, for notebooks and scripts; `help(flowscore.load)` and the like say more.

    >>> model = flowscore.load("model")  # or flowscore.fit("padim", "good/")
    >>> model.score("suspicious").score.shape, model.explain("bad.png")[0].relevance.shape
    ((3,), (64, 64))
    >>> flowscore.tables("results")["scores"].aggregate("count(*)").fetchall()
    [(3,)]

Images are a folder or s3://bucket/prefix, a file, a uint8 array (H, W, 3) or (H, W), or a list of files and arrays.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.in_python.entries import explain, fit, load, score, tables

__all__ = ["explain", "fit", "load", "score", "tables"]


def __getattr__(name: str) -> Any:
    """The entries are imported when the first is asked for, so that `import flowscore` takes no time."""
    if name not in __all__:
        raise AttributeError(f"flowscore has {', '.join(__all__)}; got {name!r}.")
    return getattr(import_module("jobs.in_python.entries"), name)
