"""Has every node of a cluster try what its workers will need, before work begins: they do not have the driver's rights."""

import contextlib
import logging
import pickle
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pipeline.input.config import SourceConfig
from pipeline.input.listing import open_input
from pipeline.stages.faults import StagesError
from pipeline.stages.joining.node_view import Lack, Places, lacks
from pipeline.storage.objects import StorageError, Unreachable
from pipeline.storage.store import open_store

ANSWER_S = 120.0
"""Storage that swallows packets fails after a minute; a node's first worker may have to be unpacked before."""

LATER_ANSWER_S = 20.0
"""While a run is under way, its outcomes wait for the answer."""

HELP = 'docs/operating.md, "What nodes need", shows both ways'

log = logging.getLogger(__name__)


class NodeLacks(StagesError):
    """A node cannot reach what the driver reaches; the message says which, and what it lacks."""


class Answer(NamedTuple):
    """What a node said. fault: why it could not try, in words."""

    node: str
    lacks: list[Lack]
    fault: str | None = None


class Nodes:
    """The nodes of the cluster that this process has joined.

    A node is asked once. Those without a CPU or GPU are not asked, since no work is done there.

    Args:
        folder: key below which probes are put into the output, and deleted.
    """

    def __init__(self, source: SourceConfig, output_uri: str, folder: str) -> None:
        self._source, self._output_uri, self._folder = source, output_uri, folder
        self._asked: set[str] = set()

    def check(self, later: bool = False) -> int:
        """Ask the nodes that were not asked yet, all at once; returns how many have been asked so far.

        Args:
            later: the run is under way, and goes on without storage that does not answer for a while.
        Raises:
            NodeLacks: a node cannot do what the driver can.
            StorageError: the driver itself cannot list the input or write to the output; not Unreachable for `later`.
        """
        import ray

        new = {node["NodeID"]: node for node in ray.nodes() if node["NodeID"] not in self._asked and _works(node)}
        if not new:
            return len(self._asked)
        try:
            with _places(self._source, self._output_uri, self._folder) as places:
                answers = list(_answers(list(new.values()), places, LATER_ANSWER_S if later else ANSWER_S))
                if later:
                    answers = [each._replace(lacks=[lack for lack in each.lacks if not lack.away]) for each in answers]
                judge(answers, lambda: lacks(places))
        except Unreachable:
            if not later:
                raise
            return len(self._asked)  # the run waits for storage, and they are asked the next time
        self._asked |= new.keys()
        return len(self._asked)


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
        if lack.uri.startswith("s3://")
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


@contextlib.contextmanager
def _places(source: SourceConfig, output_uri: str, folder: str) -> Iterator[Places]:
    """What nodes are to reach, as the driver sees it; their probes are deleted at the end."""
    first = next(iter(open_input(source).list()), None)
    probe, store = f"{folder}/node-probe-{uuid.uuid4().hex}", open_store(output_uri)
    store.put_new(probe, b"1")
    try:
        yield Places(source, first, output_uri, probe)
    finally:
        with contextlib.suppress(StorageError):
            for left in list(store.list(probe)):
                store.delete(left.key)


def _answers(nodes: list[dict[str, Any]], places: Places, answer_s: float) -> Iterator[Answer]:
    """Of each node that answers in time. Of the others a line is logged: they may still be starting, and their work units stay
    open if they lack something."""
    import ray
    from ray.exceptions import RayError, RuntimeEnvSetupError

    remote, packed = ray.remote(trial()), pickle.dumps(places)
    names = {}
    for node in nodes:
        # No CPU, so that a node answers that is busy with others' work.
        task = remote.options(num_cpus=0, max_retries=0, label_selector={"ray.io/node-id": node["NodeID"]})
        names[task.remote(packed)] = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
    answered, late = ray.wait(list(names), num_returns=len(names), timeout=answer_s)
    for begun in late:
        ray.cancel(begun, force=True)
        log.warning("%s has not said within %.0f s what it can reach; going on without its answer", names[begun], answer_s)
    for begun in answered:
        name = names[begun]
        try:
            found = ray.get(begun)
            yield Answer(name, [], found) if isinstance(found, str) else Answer(name, found)
        except RuntimeEnvSetupError as error:
            yield Answer(name, [], _last_line(error))
        except RayError as error:  # the node or its worker is gone; others do the work
            log.warning("%s has not said what it can reach (%s); going on without its answer", name, type(error).__name__)


def trial() -> Callable[[bytes], list[Lack] | str]:
    """What a node does with pickled Places. It is a function within one, which Ray sends whole: a worker that is told to import
    what it does not have prints a traceback."""

    def tried(packed: bytes) -> list[Lack] | str:
        import pickle

        try:
            from pipeline.stages.joining.node_view import lacks

            return lacks(pickle.loads(packed))
        except ImportError as error:
            return f"{type(error).__name__}: {error}"

    return tried


def _last_line(error: Exception) -> str:
    """What Python said at the end of the traceback that Ray's error has as its text."""
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__).rstrip(".")
