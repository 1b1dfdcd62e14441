"""How far a map of one image can be trusted: its deletion test against the same map at random other places."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:  # pages show standings without torch
    from models.explain.deletion import Deletion, RandomOrders

Standing = Literal["better", "unclear", "worse", "untested"]
STANDINGS: tuple[Standing, ...] = get_args(Standing)


class Trust(NamedTuple):
    """standing: `better` if the score falls faster than in every random order, `worse` if not faster than in their mean,
    `unclear` between the two, and `untested` without figures. slower: random orders in which it falls more slowly, of all
    `orders`.
    """

    standing: Standing
    slower: int
    orders: int


def trust(found: "Deletion | None", random: "RandomOrders | None") -> Trust:
    """What the test says of a map.

    >>> from models.explain.deletion import Deletion, RandomOrders
    >>> random = RandomOrders(0.5, [1.0, 0.0], [0.4, 0.5, 0.6])
    >>> [trust(Deletion(auc, []), random).standing for auc in (0.3, 0.45, 0.5)]
    ['better', 'unclear', 'worse']
    """
    if found is None or random is None:
        return Trust("untested", 0, 0)
    slower = sum(area > found.auc for area in random.areas)
    if found.auc >= random.auc:
        return Trust("worse", slower, len(random.areas))
    return Trust("better" if slower == len(random.areas) else "unclear", slower, len(random.areas))


def most_trusted_first(tested: "Mapping[str, Deletion | None]", random: "Mapping[str, RandomOrders | None]") -> list[str]:
    """The maps' names by their standing, and by their area within one; untested ones come last, in the order given.

    >>> from models.explain.deletion import Deletion, RandomOrders
    >>> tested, orders = {"a": Deletion(0.2, []), "b": None, "c": Deletion(0.3, [])}, RandomOrders(0.5, [], [0.4, 0.6])
    >>> most_trusted_first(tested, {"a": RandomOrders(0.1, [], [0.1, 0.1]), "b": None, "c": orders})
    ['c', 'a', 'b']
    """
    areas = {name: found.auc if found else float("inf") for name, found in tested.items()}
    ranks = {name: STANDINGS.index(trust(found, random[name]).standing) for name, found in tested.items()}
    return sorted(areas, key=lambda name: (ranks[name], areas[name]))
