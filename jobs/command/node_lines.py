"""What Ray prints in the driver for processes of its nodes, in words: it puts `(MapWorker(..) pid=47, ip=10.0.0.7)` in front.

Of lines that are alike but for their numbers, from several processes, it prints the first, and later the last with their count.
"""

import re

COLOUR = re.compile("\x1b\\[[0-9;]*m")
FROM_A_NODE = re.compile(
    r"\((?:(?P<name>\S.*?) )?(?:pid=(?P<pid>\d+)|(?:pid=)?(?:raylet|gcs_server))(?:, ip=(?P<ip>[^)]+))?\) (?P<text>.*)"
)
AUTOSCALER = re.compile(r"\(autoscaler \+[0-9hms]+(?:, ip=[^)]+)?\) (?P<text>.*)")
REPEATED = re.compile(r" \[repeated (?P<count>\d+)x across cluster\](?: \(Ray deduplicates logs by default\..*\))?$")
ROLES = {"ScoreStage": "scorer", "LoneWorker": "scorer", "read_and_decode": "reader", "commit": "committer"}


def readable(line: str) -> str:
    """The line as it is logged; one that is not of a node stays as it is.

    >>> readable("(MapWorker(MapBatches(ScoreStage)) pid=4711, ip=10.0.0.7) GPU 0 is out of memory")
    'scorer 4711 on node 10.0.0.7: GPU 0 is out of memory'
    """
    line = COLOUR.sub("", line)
    if (said := AUTOSCALER.fullmatch(line)) is not None:
        return f"autoscaler: {said['text']}"
    found = FROM_A_NODE.fullmatch(line)
    if found is None:
        return line
    where = f" on node {found['ip']}" if found["ip"] else ""
    if found["pid"] is None:
        who = "Ray"
    else:
        role = next((role for name, role in ROLES.items() if name in (found["name"] or "")), "worker")
        who = f"{role} {found['pid']}"
    return f"{who}{where}: {REPEATED.sub(_others, found['text'])}"


def _others(repeated: re.Match[str]) -> str:
    return f" (and {repeated['count']} times in other processes)"
