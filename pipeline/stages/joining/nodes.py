"""Has every node of a cluster try what its workers will need, before work begins: they do not have the driver's rights."""

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pipeline.input.config import SourceConfig
from pipeline.input.listing import open_input
from pipeline.input.listing_file import ListingFile
from pipeline.stages.faults import StagesError
from pipeline.stages.joining.node_view import Lack, Places, Step, lacks
from pipeline.storage.objects import Object, StorageError, Unreachable
from pipeline.storage.store import open_store

ANSWER_S = 120.0
"""Storage that swallows packets fails after a minute; a node's first worker may have to be unpacked before."""

LATER_ANSWER_S = 20.0
"""While a run is under way, its outcomes wait for the answer. A node that was too slow for it gets ANSWER_S the next time."""

AWAY_AGAIN_S = 10.0
"""When to ask a node again that storage did not answer."""

HELP = 'docs/operating.md, "What nodes need", shows both ways'

log = logging.getLogger(__name__)


class NodeLacks(StagesError):
    """A node cannot reach what the driver reaches; the message says which, and what it lacks."""


class Answer(NamedTuple):
    """What a node said. fault: why it could not try, in words."""

    node: str
    lacks: list[Lack]
    fault: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether storage answered the node everywhere."""
        return not any(lack.away for lack in self.lacks)


class Missed(NamedTuple):
    """A node that gave no whole answer. again_at: in seconds of time.monotonic, when to ask it again.  away: steps at which
    storage did not answer it although it answers the driver."""

    again_at: float
    away: frozenset[Step]


class Nodes:
    """The nodes of the cluster that this process has joined.

    A node is asked until it has answered and storage has answered it. Those without a CPU or GPU are not asked, since no work
    is done there.

    Args:
        folder: key below which probes are put into the output, and deleted.
        listing: what the input holds, if a file says it; then nobody lists the input. May raise BadListing.
    """

    def __init__(self, source: SourceConfig, output_uri: str, folder: str, listing: ListingFile | None = None) -> None:
        self._source, self._output_uri, self._folder = source, output_uri, folder
        self._lists = listing is None
        self._given = None if listing is None else next(listing.as_written(), None)
        self._asked: set[str] = set()
        self._missed: dict[str, Missed] = {}

    def check(self, later: bool = False) -> int:
        """Ask the nodes that have not answered yet, all at once; returns how many have answered so far.

        Args:
            later: the run is under way. Storage that does not answer a node is named at the second time only.
        Raises:
            NodeLacks: a node cannot do what the driver can.
            StorageError: the driver itself cannot list the input or write to the output; not Unreachable for `later`.
        """
        import ray

        due = [node for node in ray.nodes() if _works(node) and self._is_due(node["NodeID"])]
        if not due:
            return len(self._asked)
        first = later and not any(node["NodeID"] in self._missed for node in due)
        answer_s = LATER_ANSWER_S if first else ANSWER_S
        try:
            with self._places() as places:
                answers = dict(_answers(due, places, answer_s))
                judge([self._sure(node, said) if later else said for node, said in answers.items()], lambda: lacks(places))
        except Unreachable:
            if not later:
                raise
            return len(self._asked)  # the run waits for storage, and they are asked the next time
        for node in due:
            self._note(node["NodeID"], answers.get(node["NodeID"]), answer_s, later)
        return len(self._asked)

    def _is_due(self, node: str) -> bool:
        missed = self._missed.get(node)
        return node not in self._asked and (missed is None or time.monotonic() >= missed.again_at)

    def _sure(self, node: str, answer: Answer) -> Answer:
        """The answer without storage that may only have been away for a moment."""
        before = self._missed[node].away if node in self._missed else frozenset()
        return answer._replace(lacks=[lack for lack in answer.lacks if not lack.away or lack.step in before])

    def _note(self, node: str, answer: Answer | None, answer_s: float, later: bool) -> None:
        """Remember whether and when to ask the node again. A silent one is left alone for as long as it was waited for, so that
        it takes at most half of the driver's time."""
        if answer is not None and answer.is_whole:
            self._asked.add(node)
            return
        away = set(self._missed[node].away) if node in self._missed else set()
        if answer is not None and later:  # at the start the driver did not reach it either
            away |= {lack.step for lack in answer.lacks if lack.away}
        pause_s = answer_s if answer is None else AWAY_AGAIN_S
        self._missed[node] = Missed(time.monotonic() + pause_s, frozenset(away))

    @contextlib.contextmanager
    def _places(self) -> Iterator[Places]:
        """What nodes are to reach, as the driver sees it; their probes are deleted at the end."""
        first = self._first()
        probe, store = f"{self._folder}/node-probe-{uuid.uuid4().hex}", open_store(self._output_uri)
        store.put_new(probe, b"1")
        try:
            yield Places(self._source, first, self._output_uri, probe, self._lists)
        finally:
            with contextlib.suppress(StorageError):
                for left in list(store.list(probe)):
                    store.delete(left.key)

    def _first(self) -> Object | None:
        return next(iter(open_input(self._source).list()), None) if self._lists else self._given


def judge(answers: list[Answer], on_driver: Callable[[], list[Lack]]) -> None:
    """Raises NodeLacks for the first node that cannot do what the driver can. The driver tries only if a node has failed: what
    fails there as well is no node's fault, and the run says it."""
    if faulty := [answer for answer in answers if answer.fault]:
        raise NodeLacks(
            f"every node must be able to run flowscore; got {faulty[0].node}{_more(faulty)}, where {faulty[0].fault}. "
            "Give the nodes the packages and the code of the driver (deploy/Dockerfile, deploy/runtime_env.yaml)"
        )
    lacking = [answer for answer in answers if answer.lacks]
    if not lacking:
        return
    same = {lack.step for lack in on_driver()}
    for answer in lacking:
        for lack in answer.lacks:
            if lack.step not in same:
                raise NodeLacks(_sentence(answer.node + _more(lacking), lack))


def _sentence(node: str, lack: Lack) -> str:
    fix = (
        f"Give the nodes these rights themselves: {HELP}"
        if lack.on_s3
        else "Mount the folder at this path on every node, or use a bucket"
    )
    return (
        f"every node must reach input and output as the driver does; got {node}, which cannot {lack.step} {lack.uri}: "
        f"{lack.said}. It uses {lack.way}. {fix}"
    )


def _more(answers: list[Answer]) -> str:
    return f" and {len(answers) - 1} more" if len(answers) > 1 else ""


def _works(node: dict[str, Any]) -> bool:
    has = node["Resources"]
    return bool(node["Alive"] and (has.get("CPU") or has.get("GPU")))


def _answers(nodes: list[dict[str, Any]], places: Places, answer_s: float) -> Iterator[tuple[str, Answer]]:
    """Node id and answer of each node that answers in time. Of the others a line is logged: they may still be starting."""
    import ray
    from ray.exceptions import RayError, RuntimeEnvSetupError

    remote, packed = ray.remote(trial()), places.as_json()
    names, ids = {}, {}
    for node in nodes:
        # No CPU, so that a node answers that is busy with others' work.
        task = remote.options(num_cpus=0, max_retries=0, label_selector={"ray.io/node-id": node["NodeID"]})
        begun = task.remote(packed)
        names[begun], ids[begun] = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})", node["NodeID"]
    answered, late = ray.wait(list(names), num_returns=len(names), timeout=answer_s)
    for begun in late:
        ray.cancel(begun, force=True)
        log.warning("%s has not said within %.0f s what it can reach; going on without its answer", names[begun], answer_s)
    for begun in answered:
        name = names[begun]
        try:
            found = ray.get(begun)
            yield ids[begun], Answer(name, [], found) if isinstance(found, str) else Answer(name, found)
        except RuntimeEnvSetupError as error:
            yield ids[begun], Answer(name, [], _last_line(error))
        except RayError as error:  # the node or its worker is gone; others do the work
            log.warning("%s has not said what it can reach (%s); going on without its answer", name, type(error).__name__)


def trial() -> Callable[[str], list[Lack] | str]:
    """What a node does with Places as JSON. It is a function within one, which Ray sends whole: a worker that is told to import
    what it does not have prints a traceback."""

    def tried(packed: str) -> list[Lack] | str:
        try:
            from pipeline.stages.joining.node_view import Places, lacks

            return lacks(Places.of_json(packed))
        except ImportError as error:
            return f"{type(error).__name__}: {error}"

    return tried


def _last_line(error: Exception) -> str:
    """What Python said at the end of the traceback that Ray's error has as its text."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).rstrip(".")
