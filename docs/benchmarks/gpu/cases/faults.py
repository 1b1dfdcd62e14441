"""Faults of a real device, each in a process that it may ruin: the scorer must say one sentence, never a number."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from cases.place import Place
from cases.subjects import changed, trained

from models import artifact
from pipeline.scoring.captured import Captured
from pipeline.scoring.device_calls import on_device
from pipeline.scoring.faults import DeviceFault
from pipeline.scoring.scorer import Scorer

SPARE_BYTES = 8 << 20  # what is left for the allocator where memory is to run out
BATCH = 64


def run(fault: Callable[[Place], None], place: Place, _: int) -> Iterator[dict[str, Any]]:
    try:
        fault(place)
    except DeviceFault as error:
        yield {"ok": True, "said": str(error)}
        sys.stderr.flush()
        os._exit(0)  # what a dead device holds cannot be freed
    else:
        yield {"ok": False, "said": "nothing; it went on"}


def memory_at_load(place: Place) -> None:
    torch.cuda.init()
    _leave(SPARE_BYTES)
    on_device(lambda: _model(place), place.device, "loading the model")


def memory_at_capture(place: Place) -> None:
    model = _model(place)
    _leave(SPARE_BYTES)
    on_device(lambda: Scorer(model, place.device), place.device, "capturing the model")


def memory_inside_a_capture(place: Place) -> None:
    """A capture that fails leaves the allocator and the streams as they were, and the next one works."""
    model, failed = _model(place), []

    def computed(images: torch.Tensor) -> Any:
        if torch.cuda.is_current_stream_capturing() and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory, once, in the capture")
        return model.score(images)

    shape = (BATCH, place.side_px, place.side_px, 3)
    on_device(lambda: Captured(computed, shape, place.device), place.device, "capturing the model")
    assert failed and torch.cuda.current_stream() == torch.cuda.default_stream()
    scorer = Scorer(model, place.device)
    _leave(SPARE_BYTES)
    scorer(place.tiles())
    raise DeviceFault("nothing: the second capture worked, and so did a scorer after it")


def memory_at_run(place: Place) -> None:
    """A replay allocates nothing, so a lane that starts kernels one by one is what can run out of memory."""
    model = _model(place)
    scorer = Scorer(model, place.device)
    pixels = torch.from_numpy(place.tiles()).to(place.device)
    _leave(SPARE_BYTES)
    scorer(place.tiles())  # a graph has its memory: this must still work
    on_device(lambda: model.score(pixels), place.device, f"a batch of {BATCH} images")


def device_assert(place: Place) -> None:
    scorer = Scorer(_model(place), place.device)
    beyond = torch.tensor([5], device=place.device)
    torch.zeros(1, device=place.device)[beyond]  # starts a kernel that fails; the next call hears of it
    scorer(place.tiles())


FAULTS = (memory_at_load, memory_at_capture, memory_inside_a_capture, memory_at_run, device_assert)


def _model(place: Place) -> Any:
    return artifact.load(changed(trained("csflow", place), precision="fp16", batch_size=BATCH), place.device)


def _leave(spare: int) -> None:
    """Let this process have so many bytes more than it has now."""
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)
