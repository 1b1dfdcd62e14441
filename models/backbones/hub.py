"""Whether the hub that holds pretrained weights answers: its own client tries for minutes before it gives up."""

import queue
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from models.backbones.weights import BackboneError

ANSWER_S = 3.0
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
FIX = "Give a file with --weights FILE, or --weights none for random weights"


def check_hub(name: str, source: dict[str, Any], answer_s: float = ANSWER_S) -> None:
    """Raises BackboneError where the weights are neither on this machine nor to be had from a server that answers.

    Any answer will do, a refusal too: what it means is found out by the download.

    Args:
        name: timm's, for the message.
        source: timm's pretrained config as a dictionary: `hf_hub_id`, `url`, `file`.
        answer_s: longest wait, seconds; looking up a host's name may take longer by itself.

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


def _fault(url: str, answer_s: float) -> str | None:
    """Why nothing answers there; None if something does. A thread of its own asks, since a look-up of a name has no limit."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=answer_s):
                answers.put(None)
        except urllib.error.HTTPError:
            answers.put(None)
        except urllib.error.URLError as error:
            answers.put(None if isinstance(error.reason, ssl.SSLError) else str(error.reason))
        except (OSError, ValueError) as error:
            answers.put(str(error) or type(error).__name__)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=answer_s + 0.5)
    except queue.Empty:
        return f"no answer within {answer_s:g} s"
