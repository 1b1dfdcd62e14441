"""`flowscore` with scorers on GPUs that Ray believes in and that fail as planned; a CPU computes.

A run of `command` is a process of its own: one Ray, on a machine that declares two GPUs. A plan, a JSON file beside files that
say which of its faults have happened already, reaches the scorers through the environment.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.stages.score import ScoreStage

ROOT = Path(__file__).parents[1]
VARIABLE = "FAILING_DEVICES"
HANG_S = 15.0
"""The limit of a batch here."""

MEMORY_ONCE, MEMORY_TWICE, ILLEGAL, HANG, KILL = "memory once", "memory twice", "illegal", "hang", "kill"


@dataclass(frozen=True)
class Plan:
    """computing: faults that happen once each, every other batch of a process.  loading: the number of faults that happen while
    a model is loaded.  always: GPUs on which every batch fails."""

    computing: tuple[str, ...] = ()
    loading: int = 0
    always: tuple[str, ...] = ()


def run(folder: Path, faults: Plan, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The whole command with the plan; `folder` is made for it."""
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(asdict(faults)))
    if len(faults.always) == 1:
        (folder / "waits").touch()
    environment = os.environ | {
        VARIABLE: str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
        "RAY_DEDUP_LOGS": "0",
    }
    code = "import failing_devices; failing_devices.command()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=850
    )


def happened(folder: Path) -> int:
    return len(list(folder.glob("*.happened")))


def command() -> None:
    """Runs in the process of the command."""
    import ray

    from jobs.cli import main
    from pipeline.stages import alone, dataset
    from pipeline.stages.session_folder import session_folder

    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        object_store_memory=200 << 20,
        **session_folder().options(),
    )
    dataset.ScoreStage = alone.ScoreStage = FailingStage  # type: ignore[misc,attr-defined]
    main()


class FailingStage(ScoreStage):
    """The stage in the processes of scorers."""

    def __init__(self, config: Any, place: Any = None) -> None:
        _install()
        super().__init__(config, place)

    def __call__(self, row: Any) -> Any:
        """Units wait on a device that works until the others are left out; it would be done before."""
        folder, until = Path(os.environ[VARIABLE]), time.monotonic() + 200
        if (folder / "waits").exists():
            while len(list(folder.glob("*.fault"))) < 3 and gpu() not in plan()["always"] and time.monotonic() < until:
                time.sleep(0.1)
        return super().__call__(row)


def plan() -> dict[str, Any]:
    return json.loads((Path(os.environ[VARIABLE]) / "plan.json").read_text())


def gpu() -> str:
    import ray

    (found,) = ray.get_runtime_context().get_accelerator_ids()["GPU"]
    return found


def _install() -> None:
    import torch

    from pipeline.scoring import captured, lanes, scorer
    from pipeline.stages import score

    folder, faults = Path(os.environ[VARIABLE]), plan()
    open_scorer, compute, batches, memory = scorer.open_scorer, captured.Captured.__call__, count(1), []

    def claim(kind: str, most: int) -> int | None:
        """The number of a fault that has not happened yet."""
        for number in range(most):
            try:
                (folder / f"{kind}{number}.happened").touch(exist_ok=False)
            except FileExistsError:
                continue
            return number
        return None

    def opened(directory: Path, device: str, threads: int, explain: Any, idle: Any, watch: Any) -> Any:
        if claim("loading", faults["loading"]) is not None:
            raise RuntimeError("CUDA error: initialization error")
        return open_scorer(directory, "cpu", 1, explain, idle, watch)

    def failing(self: Any, images: Any) -> Any:
        if gpu() in faults["always"]:
            (folder / f"{os.getpid()}.fault").touch()
            raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\na page of advice")
        if memory:
            raise torch.OutOfMemoryError(f"CUDA out of memory. {memory.pop()}")
        if next(batches) % 2 == 0 and (number := claim("computing", len(faults["computing"]))) is not None:
            kind = faults["computing"][number]
            if kind in (MEMORY_ONCE, MEMORY_TWICE):
                memory.extend(["again"] if kind == MEMORY_TWICE else [])
                raise torch.OutOfMemoryError("CUDA out of memory.")
            if kind == ILLEGAL:
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
            if kind == HANG:
                time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, images)

    score.take_given_device = lambda config: None  # torch finds no GPU here
    scorer.open_scorer, captured.Captured.__call__, lanes.BATCH_S = opened, failing, HANG_S  # type: ignore[assignment,method-assign]
