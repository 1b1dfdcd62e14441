"""Asks a Ray cluster by single requests, each with a time limit, who it is and whether this process may join it.

Ray's own core repeats such requests for minutes, prints as it does, and may end the process.
"""

import json
import platform
import time
from contextlib import closing
from typing import Any, NamedTuple

from pipeline.stages.faults import StagesError

REQUEST_S = 10.0
LEAST_S = 0.1
"""What a request gets once time is up."""

REGISTERED_S = 5.0
"""A node's process may be younger than its entry in the cluster."""

CLUSTER, METADATA = b"cluster", b"CLUSTER_METADATA"


class ClusterNode(NamedTuple):
    """A node that is alive. address: its IP address."""

    node_id: str
    address: str
    cpus: float
    gpus: float


class ClusterFacts(NamedTuple):
    """ray, python: versions with which the cluster was started; blank if it does not say."""

    ray: str
    python: str
    nodes: tuple[ClusterNode, ...]


MEND = "Start the cluster, correct the address, or leave it out to score on this machine"


class NotJoined(StagesError):
    """This process cannot join the cluster; the message continues the sentence `..., where` of NoCluster. fix: what to do."""

    def __init__(self, why: str, fix: str = MEND) -> None:
        super().__init__(why)
        self.fix = fix


def ask_head(host: str, port: int, until: float) -> ClusterFacts:
    """What the head at its own port (usually 6379) says of its cluster.

    Args:
        until: in seconds of time.monotonic, when both requests must have been answered.
    Raises NotJoined.
    """
    from ray.core.generated import gcs_pb2, gcs_service_pb2, gcs_service_pb2_grpc

    requests: Any = gcs_service_pb2  # protobuf makes their classes when they are imported, so mypy knows none
    messages: Any = gcs_pb2
    with closing(_channel(host, port)) as channel:
        metadata = _answer(
            gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel).InternalKVGet,
            requests.InternalKVGetRequest(key=METADATA, namespace=CLUSTER),
            until,
            f"The head's own port is usually 6379. {MEND}",
        ).value
        found = _answer(
            gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel).GetAllNodeInfo, requests.GetAllNodeInfoRequest(), until
        ).node_info_list
    versions = json.loads(metadata) if metadata else {}
    alive = [node for node in found if node.state == messages.GcsNodeInfo.ALIVE]
    nodes = (
        ClusterNode(
            node.node_id.hex(),
            node.node_manager_address,
            node.resources_total.get("CPU", 0.0),
            node.resources_total.get("GPU", 0.0),
        )
        for node in alive
    )
    return ClusterFacts(versions.get("ray_version", ""), versions.get("python_version", ""), tuple(nodes))


def check_may_join(facts: ClusterFacts, host: str, port: int, until: float) -> ClusterFacts:
    """The facts, perhaps newer.

    Args:
        until: as `ask_head` has it.
    Raises NotJoined: other versions than here, or no node of the cluster on this machine.
    """
    if (versions := other_versions(facts)) is not None:
        raise NotJoined(versions, "Install the same versions on both sides")
    registered = min(until, time.monotonic() + REGISTERED_S)
    while not (here := nodes_here()) & {node.node_id for node in facts.nodes}:
        if not here or time.monotonic() > registered:
            raise NotJoined(
                f"{len(facts.nodes)} node(s) are alive, and none of them is on this machine",
                "Submit the command with `ray job submit`, or run it on a node of the cluster",
            )
        time.sleep(0.5)
        facts = ask_head(host, port, until)
    return facts


def other_versions(facts: ClusterFacts) -> str | None:
    """How the cluster's versions differ from those here, if Ray refuses that."""
    import ray
    from ray._private.utils import check_version_info

    if not facts.ray:
        return None
    try:
        check_version_info({"ray_version": facts.ray, "python_version": facts.python}, "this process")
    except RuntimeError:
        here = f"{ray.__version__} and Python {platform.python_version()}"
        return f"Ray {facts.ray} on Python {facts.python} runs; here are Ray {here}"
    return None


def nodes_here() -> set[str]:
    """Ids of the nodes whose processes run on this machine, of any cluster."""
    from ray._private.services import find_node_ids

    return set(find_node_ids())


def _channel(host: str, port: int) -> Any:
    """A channel with this process's token and certificates, if Ray is told to use them. Raises NotJoined without a token."""
    import ray  # noqa: F401  # sets up the modules below
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
    from ray._private.grpc_utils import init_grpc_channel
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # it is not in Ray's stub

    if is_token_auth_enabled() and not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        raise NotJoined("RAY_AUTH_MODE is token and there is no token here", TOKEN)
    try:
        return init_grpc_channel(f"{_named(host)}:{port}")
    except (OSError, RuntimeError) as error:  # certificates that are not there
        raise NotJoined(f"no connection can be prepared ({error})") from error


TOKEN = "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the token of the head"


def _answer(method: Any, request: Any, until: float, other: str = MEND) -> Any:
    """The answer to one request.

    Args:
        until: as `ask_head` has it.
        other: what to try when a server answers that does not know the request.
    """
    import grpc

    timeout_s = max(LEAST_S, min(REQUEST_S, until - time.monotonic()))
    try:
        return method(request, timeout=timeout_s)
    except grpc.RpcError as error:
        code, details = error.code(), " ".join(str(error.details()).split())
        if code == grpc.StatusCode.UNAUTHENTICATED:
            sent = "another token than this process sends" if _sends_a_token() else "a token, and this process sends none"
            raise NotJoined(f"the cluster wants {sent}", TOKEN) from error
        if code == grpc.StatusCode.UNIMPLEMENTED:
            raise NotJoined("a server answers that does not know this request of Ray", other) from error
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise NotJoined(f"nothing answers within {timeout_s:.0f} s") from error
        raise NotJoined(f"the request fails ({code.name}: {details:.200})") from error


def _sends_a_token() -> bool:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    return bool(is_token_auth_enabled())


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host
