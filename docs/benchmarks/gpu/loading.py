"""Time and memory that one scoring actor takes to load an artifact on one core.

    PYTHONPATH=. python docs/benchmarks/gpu/loading.py FOLDER [DETECTOR ...]

For each detector (default csflow), an artifact with EfficientNet-B5 at 768 x 768 pixels and random weights is written below
FOLDER once, and the same artifact without the network's structure. That one is built by running the network, as all were before
artifacts kept it. Each is loaded in a process of its own with OMP_NUM_THREADS=1. Prints one line of JSON an artifact: seconds
of imports, of checking the digests and of loading (on the clock and of the processor), and the peak of the resident set in GiB
after the imports, after loading, and the difference.
"""

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

STARTED = time.monotonic()

from models import artifact, registry  # noqa: E402
from models.artifact import CONFIG, file_text, write_digests  # noqa: E402
from models.backbones.backbone import BackboneConfig  # noqa: E402
from models.config import ArtifactConfig, InputConfig  # noqa: E402

BACKBONE, SIDE_PX = "efficientnet_b5", 768
WITHOUT = "-without-structure"


def write(folder: Path, detector: str) -> list[Path]:
    """The directories of the artifact and of the one without a structure; those that are there are taken as they are."""
    whole, without = folder / detector, folder / f"{detector}{WITHOUT}"
    if not whole.exists():
        size, network = InputConfig(height=SIDE_PX, width=SIDE_PX), BackboneConfig(name=BACKBONE, weights="none")
        built = registry.build(ArtifactConfig(name="loading", detector=detector, input=size, backbone=network))
        trained = {"versions": {"timm": version("timm")}}  # the structure of another timm is not taken
        made = built.config.model_copy(update={"trained": trained})
        artifact.save(whole, made, built, "# Random weights, for measuring how they are loaded\n")
        artifact.save(without, made, built, "# The same\n")
        config = json.loads((without / CONFIG).read_text(encoding="utf-8"))
        config["backbone"]["structure"] = None
        (without / CONFIG).write_text(file_text(config), encoding="utf-8")
        write_digests(without)
    return [whole, without]


def peak_gib() -> float:
    """The peak of this program's resident set; getrusage would count that of the one that started it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def figures(directory: Path) -> dict[str, float | str]:
    """What loading takes in this process, which must not have loaded anything yet."""
    import timm  # noqa: F401
    import torch
    from safetensors.torch import load_file  # noqa: F401

    torch.set_num_threads(1)
    imports_s, imports_gib = time.monotonic() - STARTED, peak_gib()
    start = time.monotonic()
    opened = artifact.read(directory)
    read_s, start, processor = time.monotonic() - start, time.monotonic(), time.process_time()
    artifact.load(opened)
    load_s, load_cpu_s, total_gib = time.monotonic() - start, time.process_time() - processor, peak_gib()
    seconds = {"imports_s": imports_s, "read_s": read_s, "load_s": load_s, "load_cpu_s": load_cpu_s}
    memory = {"imports_gib": imports_gib, "load_gib": total_gib - imports_gib, "total_gib": total_gib}
    return {"artifact": directory.name} | {name: round(value, 2) for name, value in (seconds | memory).items()}


def main(arguments: list[str]) -> None:
    if arguments[0] == "--load":
        print(json.dumps(figures(Path(arguments[1]))))
        return
    for detector in arguments[1:] or ["csflow"]:
        for directory in write(Path(arguments[0]), detector):
            command = [sys.executable, __file__, "--load", str(directory)]
            subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
