"""Two trainings with one seed give the same weights, and training computes the features that scoring computes."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from cases.place import Place
from cases.subjects import fitted, trained

from models import artifact

DETECTOR = "csflow"


def twice(place: Place, _: int) -> Iterator[dict[str, Any]]:
    hashes = [_hash(fitted(DETECTOR, place)) for _ in range(2)]
    yield {"ok": hashes[0] == hashes[1], "weights": hashes}


def one_arithmetic(place: Place, _: int) -> Iterator[dict[str, Any]]:
    """The features of a detector that was just trained are those of the same detector loaded to score."""
    just_trained = fitted(DETECTOR, place)
    pixels = torch.from_numpy(place.tiles()[:8]).to(place.device)
    ours = just_trained.extract(pixels)
    loaded = artifact.load(trained(DETECTOR, place), place.device)
    theirs = loaded.extract(pixels)
    yield {
        "ok": all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)),
        "largest_difference": max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)),
    }


def _hash(model: torch.nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
