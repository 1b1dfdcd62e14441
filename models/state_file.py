"""A file of state from which another process goes on: it is there whole or not at all, is checked when read, and runs nothing.

The first line is the SHA-256 of the rest. The second is JSON: whose state it is, and the state with a number for every tensor.
The tensors follow as safetensors.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from models.faults import ModelError


class UnusableState(ModelError):
    """A file of state that is damaged, or is that of something else."""


def write(path: Path, identity: str, state: Any) -> None:
    """Replace the file. Whoever is killed meanwhile leaves the old file or the new one.

    Args:
        identity: says whose state it is; `read` wants the same.
        state: dictionaries, lists and tuples of tensors, arrays, numbers, texts, booleans and None, to any depth.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "a.state", "tile", {0: torch.ones(2), "loss": [0.5, None]})
    ...     read(Path(folder) / "a.state", "tile")
    {0: tensor([1., 1.]), 'loss': [0.5, None]}
    """
    tensors: dict[str, Tensor] = {}
    document = json.dumps({"identity": identity, "state": _packed(state, tensors)}).encode() + b"\n"
    content = save(tensors)
    total = hashlib.sha256(document)
    total.update(content)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            for part in (total.hexdigest().encode() + b"\n", document, content):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # a signal may come when it already has the file's name
            os.unlink(partial)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name too outlives a loss of power
    finally:
        os.close(folder)


def read(path: Path, identity: str) -> Any:
    """The state that was written, with tensors on the CPU and in the strides that they had; tuples come back as lists.

    Raises FileNotFoundError, or UnusableState for a file that is damaged or has another identity.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.state").write_bytes(b"torn")
    ...     try:
    ...         read(Path(folder) / "a.state", "tile")
    ...     except UnusableState as error:
    ...         str(error)
    'a.state is damaged'
    """
    with open(path, "rb") as file:
        digest, document, content = file.readline(), file.readline(), file.read()
    total = hashlib.sha256(document)
    total.update(content)
    if digest != total.hexdigest().encode() + b"\n":
        raise UnusableState(f"{path.name} is damaged")
    found = json.loads(document)
    if found["identity"] != identity:
        raise UnusableState(f"{path.name} is of other images or settings")
    return _unpacked(found["state"], load(content))


def _packed(state: Any, tensors: dict[str, Tensor]) -> Any:
    """The state as JSON; its tensors go into `tensors`, where their names are numbers."""
    if isinstance(state, Mapping):
        return {"pairs": [[key, _packed(value, tensors)] for key, value in state.items()]}
    if isinstance(state, list | tuple):
        return [_packed(value, tensors) for value in state]
    if isinstance(state, Tensor | np.ndarray):
        array = isinstance(state, np.ndarray)
        tensor = torch.from_numpy(np.array(state)) if isinstance(state, np.ndarray) else state.detach()
        # Kernels choose by strides, and another kernel may round otherwise. `empty_like` keeps those of a dense tensor.
        strides = torch.empty_like(tensor, device="meta").stride()
        name = str(len(tensors))
        tensors[name] = tensor.cpu().contiguous()
        return {"tensor": name, "array": array, "strides": strides}
    return state


def _unpacked(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(packed, list):
        return [_unpacked(value, tensors) for value in packed]
    if isinstance(packed, dict) and "pairs" in packed:
        return {key: _unpacked(value, tensors) for key, value in packed["pairs"]}
    if isinstance(packed, dict):
        read = tensors[packed["tensor"]]
        # A copy lies at an address that torch has chosen, as tensors of an uninterrupted process do.
        own = torch.empty_strided(read.shape, packed["strides"], dtype=read.dtype)
        own.copy_(read)
        return own.numpy() if packed["array"] else own
    return packed
