"""Whether the hub that holds pretrained weights answers: its own client tries for minutes before it gives up."""

import errno
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch

from models.backbones.weights import BackboneError

ANSWER_S = 4.5
TRIES = 2
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
FIX = "Give a file with --weights FILE, or --weights none for random weights"


def check_hub(name: str, source: dict[str, Any], answer_s: float = ANSWER_S) -> None:
    """Raises BackboneError where the weights are neither on this machine nor to be had from a server that answers.

    Any answer will do, a refusal too: what it means is found out by the download.

    Args:
        name: timm's, for the message.
        source: timm's pretrained config as a dictionary: `hf_hub_id`, `url`, `file`.
        answer_s: longest wait, seconds, for all tries.

    >>> check_hub("resnet18", {"file": "/weights/resnet18.safetensors"})  # raises nothing: no server is needed
    """
    if source.get("file"):
        return
    repository, url = source.get("hf_hub_id"), source.get("url")
    if repository:
        from huggingface_hub import constants, try_to_load_from_cache

        where, _, revision = str(repository).partition("@")
        names = (*WEIGHTS_FILES, *filter(None, [source.get("hf_hub_filename")]))
        if any(isinstance(try_to_load_from_cache(where, each, revision=revision or None), str) for each in names):
            return
        if constants.HF_HUB_OFFLINE:
            raise _unreachable(name, constants.ENDPOINT, "HF_HUB_OFFLINE is set, and they are not in its cache")
        url = constants.ENDPOINT
    elif url and (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(str(url)).path).name).is_file():
        return
    if url and (fault := _fault(str(url), answer_s)) is not None:
        raise _unreachable(name, str(url), fault)


def _unreachable(name: str, url: str, fault: str) -> BackboneError:
    return BackboneError(f"weights must be reachable; those of {name!r} would come from {url}: {fault}. {FIX}.")


class _Answer(NamedTuple):
    """fault: why nothing answers; None if something does.  certain: another try would be told the same."""

    fault: str | None
    certain: bool


def _fault(url: str, answer_s: float) -> str | None:
    """Why nothing answers there; None if something does. One lost packet is no fault: a second try begins after half the time.

    Threads of their own ask, since a look-up of a name has no limit.
    """
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
    started, under_way, fault = time.monotonic(), 0, f"no answer within {answer_s:g} s"
    for number in range(1, TRIES + 1):
        threading.Thread(target=lambda: answers.put(_ask(url, answer_s)), daemon=True).start()
        under_way += 1
        until = started + answer_s * number / TRIES
        while under_way:
            try:
                answer = answers.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            under_way -= 1
            if answer.fault is None or answer.certain:
                return answer.fault
            fault = answer.fault
    return fault


def _ask(url: str, timeout_s: float) -> _Answer:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout_s):
            return _Answer(None, certain=True)
    except urllib.error.HTTPError:
        return _Answer(None, certain=True)
    except (OSError, ValueError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLError):
            return _Answer(None, certain=True)
        return _Answer(" ".join(str(reason).split()) or type(reason).__name__, _is_certain(reason))


def _is_certain(reason: object) -> bool:
    if isinstance(reason, socket.gaierror):
        return reason.errno != socket.EAI_AGAIN
    return isinstance(reason, ConnectionRefusedError | ValueError) or (isinstance(reason, OSError) and reason.errno in NO_WAY)
