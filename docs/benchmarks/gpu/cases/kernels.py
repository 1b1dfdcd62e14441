"""What a GPU does in a batch, kernel by kernel."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from cases.place import Place
from cases.rates import B5, opened, pictures
from cases.subjects import changed
from torch.profiler import ProfilerActivity, profile

from models import artifact

BATCH = 16
TOP = 25
GROUPS = (  # the first whose words a kernel's name contains
    ("layout", ("nchwtonhwc", "nhwctonchw", "transpose", "permute")),
    ("depthwise", ("depthwise", "dwconv", "conv2d_grouped")),
    (
        "16-bit products",
        ("16816", "hmma", "f16f16", "bf16bf16", "f16_", "_h884", "nvjet_hs", "nvjet_ts"),
    ),
    (
        "float32 products",
        ("f32f32", "tf32", "fprop", "convolve", "winograd", "nvjet_ss", "cudnn", "gemm"),
    ),
    ("casts and copies", ("copy_kernel", "loadwithcast", "memcpy", "memset")),
    ("reductions", ("reduce",)),
    ("elementwise", ("elementwise", "cat", "triton", "upsample", "pool", "index", "gather")),
)


def launched(call: Callable[[], object]) -> int:
    """How many kernels the call starts."""
    return sum(count for count, _ in _by_name(call, 1).values())


def run(place: Place, _: int) -> Iterator[dict[str, Any]]:
    """The time of a batch of CS-Flow on EfficientNet-B5 by kind of kernel, and the kernels that take most of it."""
    for precision in ("fp16", "bf16"):
        model = artifact.load(changed(opened(B5, place), precision=precision, batch_size=BATCH), place.device)
        images = pictures(B5, place, BATCH)
        found = _by_name(lambda model=model, images=images: model.score(images), 3)
        total = sum(us for _, us in found.values())
        groups: Counter[str] = Counter()
        for name, (_, us) in found.items():
            groups[_group(name)] += us
        largest = sorted(found.items(), key=lambda item: -item[1][1])[:TOP]
        yield {
            "precision": precision,
            "batch": BATCH,
            "ms": round(total / 1e3, 3),
            "kernels": sum(count for count, _ in found.values()),
            "share": {name: round(us / total, 4) for name, us in groups.most_common()},
            "largest": [[name[:90], count, round(us / total, 4)] for name, (count, us) in largest],
        }


def _by_name(call: Callable[[], object], calls: int) -> dict[str, tuple[int, float]]:
    """Launches and microseconds of one call, by the kernel's name."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    events = [event for event in profiled.key_averages() if event.self_device_time_total > 0]
    return {event.key: (event.count // calls, event.self_device_time_total / calls) for event in events}


def _group(kernel: str) -> str:
    name = kernel.lower()
    return next((group for group, words in GROUPS if any(word in name for word in words)), "other")
