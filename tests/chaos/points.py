"""The faults to try: all kinds at all requests, in a seeded order, so that any number of them is a fair sample."""

import random
from typing import NamedTuple

from fault_proxy import KINDS, Fault, Request

IN_BODY = {"close_in_body", "reset_in_body", "short"}
PASSING = ("500", "503", "429", "drop", "drop_answer", "403")
LASTING = 9  # times in a row, more often than a request is retried
KILLED_AGAIN = 0.15  # share of the kills after which the second run is killed too
LASTING_SHARE = 0.03


class Point(NamedTuple):
    """scenario: the run that is harmed. fault: strikes the first command. then: strikes the second; a third ends the run."""

    scenario: str
    fault: Fault
    then: Fault | None

    def __str__(self) -> str:
        return f"{self.scenario}: {self.fault}" + (f", then {self.then}" if self.then else "")


def points(uninterrupted: dict[str, list[Request]], count: int, seed: int) -> list[Point]:
    """Args:
    uninterrupted: by scenario, the requests of an unharmed run.
    """
    rng = random.Random(seed)
    found = [
        Point(scenario, Fault(kind, request.number), None)
        for scenario, requests in sorted(uninterrupted.items())
        for request in requests
        for kind in KINDS
        if kind not in IN_BODY or request.method == "GET"
    ]
    found.sort(key=str)
    rng.shuffle(found)
    chosen = []
    for point in found[:count]:
        requests = len(uninterrupted[point.scenario])
        if point.fault.kind.startswith("kill") and rng.random() < KILLED_AGAIN:
            again = Fault(rng.choice(("kill_before", "kill_after")), rng.randrange(requests))
            point = point._replace(then=again)
        elif point.fault.kind in PASSING and rng.random() < LASTING_SHARE:
            point = point._replace(fault=Fault(point.fault.kind, point.fault.at, LASTING))
        chosen.append(point)
    return chosen
