"""Keeps what the rest of a fit follows from, after every epoch, so that an interrupted fit goes on there with the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from models import state_file


class Part(Protocol):
    """What changes from epoch to epoch: weights, an optimiser, a schedule, generators, a history. Torch's own have these."""

    def state_dict(self) -> Any:
        """The state as `models.state_file` writes it."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Take a state that state_dict has given."""


class Checkpoint:
    """The state of one fit, in a file that is replaced after every epoch.

    epochs: how many are done; 0 for a fit that begins.  ended: whether no epoch is left.

    Args:
        path: the file.
        identity: of everything that decides the result. A file of another identity, or a damaged one, is not used.
        say: called with a line about a file that is not used.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     layer, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    ...     first = Checkpoint(Path(folder) / "fit.state", "tile")
    ...     first.keep(weights=layer)
    ...     first.save(epochs=3, ended=False)
    ...     again = Checkpoint(Path(folder) / "fit.state", "tile")
    ...     again.keep(weights=other)
    ...     again.epochs, torch.equal(layer.weight, other.weight)
    (3, True)
    """

    def __init__(self, path: Path, identity: str, say: Callable[[str], None] = lambda line: None):
        self.epochs, self.ended = 0, False
        self._path, self._identity, self._say = path, identity, say
        self._parts: dict[str, Part] = {}
        self._found: dict[str, Any] = {}
        try:
            self.epochs, self.ended, self._found = state_file.read(path, identity)
        except FileNotFoundError:
            pass
        except state_file.UnusableState as error:
            say(f"not used: {error}; that part of the fit begins anew")

    def part(self, name: str) -> "Checkpoint":
        """Of a fit inside this one, in a file of its own."""
        path = self._path.with_stem(f"{self._path.stem}-{name}")
        return Checkpoint(path, f"{name} of {self._identity}", self._say)

    def keep(self, **parts: Part) -> None:
        """From now on these are saved. What an earlier process has saved of them is put into them."""
        for name, part in parts.items():
            if name in self._found:
                part.load_state_dict(self._found.pop(name))
            self._parts[name] = part

    def save(self, epochs: int, ended: bool) -> None:
        """Replace the file by the state of all parts. Raises OSError where the disk is full."""
        self.epochs, self.ended = epochs, ended
        state = {name: part.state_dict() for name, part in self._parts.items()}
        state_file.write(self._path, self._identity, (epochs, ended, state))


class Generators:
    """Generators of random numbers as a part of a checkpoint; each has get_state and set_state, as torch's have.

    >>> import torch
    >>> one, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    >>> Generators(other).load_state_dict(Generators(one).state_dict())
    >>> bool(torch.rand(1, generator=one) == torch.rand(1, generator=other))
    True
    """

    def __init__(self, *generators: Any):
        self._generators = generators

    def state_dict(self) -> list[Any]:
        return [generator.get_state() for generator in self._generators]

    def load_state_dict(self, state_dict: list[Any], /) -> None:
        for generator, state in zip(self._generators, state_dict, strict=True):
            generator.set_state(state)
