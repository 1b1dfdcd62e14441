"""The scale of each view: a dark view and a bright one score differently, and a piece takes the largest of both."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.faults import VerdictError
from models.verdicts.ranks import finite_scores


class ViewScales(NamedTuple):
    """The scale of each view, fixed on the selection set: its name, median and 90 % point of raw scores, each (V,)."""

    views: NDArray[np.str_]
    q50: NDArray[np.float64]
    q90: NDArray[np.float64]


def fit_scales(scores: ArrayLike, views: ArrayLike) -> ViewScales:
    """Median and 90 % point of each view's raw scores.

    Args:
        scores: of good images of the selection set, (N,); never of the calibration: ranks inside it are not valid for a
            new piece.
        views: (N,), str.
    Raises:
        VerdictError: the scores of a view have no spread.

    >>> fit_scales([0, 1, 2, 10, 20, 30], ["a", "a", "a", "b", "b", "b"])
    ViewScales(views=array(['a', 'b'], dtype='<U1'), q50=array([ 1., 20.]), q90=array([ 1.8, 28. ]))
    """
    cast, names = finite_scores(scores).astype(np.float64), np.asarray(views, np.str_)
    found = np.unique(names)
    points = np.array([np.quantile(cast[names == view], (0.5, 0.9)) for view in found]).reshape(-1, 2)
    for view, (q50, q90) in zip(found.tolist(), points.tolist(), strict=True):
        if not q90 > q50:
            raise VerdictError(
                f"scores of view {view!r} must differ on the selection set; got median {q50} and 90 % point {q90}. "
                "Select with more good images of that view."
            )
    return ViewScales(found, points[:, 0], points[:, 1])


def on_scale(scores: ArrayLike, views: NDArray[np.str_], scales: ViewScales) -> NDArray[np.float64]:
    """z = (s - q50_v) / (q90_v - q50_v), (N,); every view must be one of the scales'.

    >>> scales = fit_scales([0, 1, 2, 10, 20, 30], ["a", "a", "a", "b", "b", "b"])
    >>> on_scale([1.5, 28], np.array(["a", "b"]), scales)
    array([0.625, 1.   ])
    """
    place = np.searchsorted(scales.views, views)
    if not np.array_equal(np.append(scales.views, "")[place], views):
        unknown = sorted(set(views.tolist()) - set(scales.views.tolist()))
        raise VerdictError(f"view must be one of {scales.views.tolist()}; got {unknown}. Calibrate with images of that view.")
    return (finite_scores(scores).astype(np.float64) - scales.q50[place]) / (scales.q90 - scales.q50)[place]
