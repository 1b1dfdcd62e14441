"""What the deletion test says of maps, in words: on a picture, in a line, and as advice."""

from collections.abc import Sequence

from jobs.pages.explanation_picture import Notice
from models.explain.deletion import Deletion, RandomOrders
from models.explain.trust import Standing, Trust

NOTICES: dict[Standing, Notice | None] = {  # on the map itself
    "better": None,
    "unclear": Notice("not clearly better than random order", warning=False),
    "worse": Notice("WORSE THAN RANDOM ORDER: do not trust this map", warning=True),
    "untested": Notice("not tested: this map may mean nothing", warning=False),
}


def figures(found: Deletion | None, random: RandomOrders | None, trust: Trust, with_good: bool) -> str:
    """One map's figures and what they mean.

    >>> random = RandomOrders(0.5, [], [0.4, 0.5, 0.6])
    >>> figures(Deletion(0.45, []), random, Trust("unclear", 2, 3), with_good=True)
    'deletion AUC 0.450 (random 0.400-0.600, lower is better): faster than only 2 of 3 random orders'
    """
    if found is None or random is None:
        advice = "" if with_good else "; good images (--good) make a better filling"
        return f"no deletion test, because no filling scores below the image{advice}"
    area = f"deletion AUC {found.auc:.3f} (random {min(random.areas):.3f}-{max(random.areas):.3f}, lower is better)"
    said = {
        "better": f"faster than all {trust.orders} random orders",
        "unclear": f"faster than only {trust.slower} of {trust.orders} random orders",
        "worse": f"WORSE THAN RANDOM, faster than {trust.slower} of {trust.orders} random orders",
    }
    return f"{area}: {said[trust.standing]}"


def advice(maps: Sequence[tuple[str, Standing]]) -> str:
    """Which maps of an image to trust.

    Args:
        maps: (method, standing), the most trusted first.

    >>> advice([("gradient", "better"), ("anomaly_map", "unclear"), ("grad_cam", "worse")])
    'trust gradient; not anomaly_map, grad_cam'
    """
    good = [method for method, standing in maps if standing == "better"]
    bad = [method for method, standing in maps if standing != "better"]
    if all(standing == "untested" for _, standing in maps):
        return "no map could be tested: look at them with care"
    if not good:
        return "trust no map: none does better than every random order"
    return f"trust {', '.join(good)}" + (f"; not {', '.join(bad)}" if bad else "")
