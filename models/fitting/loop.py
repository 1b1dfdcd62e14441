"""The training loop on stored features; everything about images, files and settings is elsewhere."""

import contextlib
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.detector import Features, FitRun, Step
from models.faults import ModelError
from models.fitting.checkpoint import Generators
from models.maps.grids import Maps

SHARD_IMAGES = 8


class TrainingConfig(BaseModel):
    """How a flow is fitted.

    epoch_steps: the least steps of an epoch; it goes over few images several times. learning_rate: the peak of a one-cycle
    schedule, which also sets Adam's first beta. ema: decay of the averaged weights, which are the ones kept. noise: standard
    deviation of the noise that is added to prepared features; it falls linearly to 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(12, ge=1)
    epoch_steps: int = Field(0, ge=0)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    gradient_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.99, ge=0, lt=1)
    noise: float = Field(0.0, ge=0)


class TrainingError(ModelError):
    """Training cannot go on; the message names the step and what to do."""


class AveragedWeights:
    """Exponential moving average of a module's parameters, with a short memory at the start.

    >>> layer = nn.Linear(1, 1)
    >>> averaged = AveragedWeights(layer, decay=0.99)
    >>> averaged.update()
    >>> with averaged.in_place():
    ...     torch.equal(layer.weight, averaged.average[0])
    True
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.parameters = list(module.parameters())
        self.average = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_module(self) -> None:
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": self.average}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.updates = state_dict["updates"]
        for average, value in zip(self.average, state_dict["average"], strict=True):
            average.copy_(value)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The module holds the average inside the block and its own weights again afterwards."""
        own = [p.detach().clone() for p in self.parameters]
        self.copy_to_module()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, own, strict=True):
                    parameter.copy_(value)


class Gradients:
    """The gradient of the batch's mean loss. On a CPU the batch is cut into shards of a few images, one thread each.

    Threads that each do a shard never wait for each other within a layer; those of one big batch do, by spinning, and on
    busy cores a step then takes up to twenty times as long. Shards are added up in their order, so that the result
    does not depend on the number of threads.

    >>> layer = nn.Linear(2, 1)
    >>> gradients = Gradients(lambda maps: layer(maps[0]).mean(), list(layer.parameters()), device="cpu")
    >>> _ = gradients.set([torch.tensor([[1.0, 3.0], [3.0, 5.0]])])
    >>> layer.weight.grad
    tensor([[2., 4.]])
    """

    def __init__(self, loss: Callable[[Maps], Tensor], parameters: list[nn.Parameter], device: str):
        self.loss = loss
        self.parameters = parameters
        self.shard_images = SHARD_IMAGES if device == "cpu" else None
        self.threads = torch.get_num_threads() if device == "cpu" else 1

    def set(self, maps: Maps) -> float:
        """Put the gradient into the parameters; returns the loss."""
        images = len(maps[0])
        size = self.shard_images or images
        shards = [[x[first : first + size] for x in maps] for first in range(0, images, size)]
        with one_thread_an_operation(), ThreadPoolExecutor(max(1, self.threads)) as pool:
            found = list(pool.map(lambda shard: self._of(shard, len(shard[0]) / images), shards))
        for parameter, *parts in zip(self.parameters, *(gradients for _, gradients in found), strict=True):
            parameter.grad = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
        return math.fsum(loss for loss, _ in found)

    def _of(self, shard: Maps, weight: float) -> tuple[float, tuple[Tensor, ...]]:
        loss = weight * self.loss(shard)
        return float(loss.detach()), torch.autograd.grad(loss, self.parameters, materialize_grads=True)


@contextlib.contextmanager
def one_thread_an_operation() -> Iterator[None]:
    """Inside the block torch uses one thread per operation, and as many as before again afterwards.

    >>> with one_thread_an_operation():
    ...     torch.get_num_threads()
    1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(
    module: nn.Module,
    loss: Callable[[Maps], Tensor],
    prepare: Callable[[Maps], Maps],
    features: Features,
    positions: Tensor,
    config: TrainingConfig,
    run: FitRun,
    draws: tuple[Any, ...] = (),
) -> None:
    """Fit the module in place by minimising the loss; it ends with the averaged weights.

    Args:
        module: its parameters are trained, from the values that the caller gave them.
        loss: prepared maps, per level (B, ...), to a scalar, the mean over the B images, so that shards can be added up.
        prepare: features as read to the maps that the loss reads, without gradients.
        positions: int64, the images to train on, (N,).
        run: seed of the order of images and of the noise, device, and functions to call. after_epoch is called while the
            module holds the averaged weights. With a checkpoint the fit goes on where the one before was interrupted.
        draws: the generators that `prepare` draws from; each has get_state and set_state.
    Raises:
        TrainingError: the loss or its gradient is not finite, or there are no images.

    >>> from types import SimpleNamespace
    >>> features = SimpleNamespace(read=lambda positions: [positions[:, None].float()])
    >>> layer, losses = nn.Linear(1, 1), []
    >>> loss = lambda maps: (layer(maps[0]) - 3).square().mean()
    >>> config = TrainingConfig(epochs=20, batch_size=4, learning_rate=0.1)
    >>> run = FitRun(training=config, on_step=lambda step: losses.append(step.loss))
    >>> train(layer, loss, lambda maps: maps, features, torch.arange(8), config, run)
    >>> len(losses), losses[-1] < losses[0]
    (40, True)
    """
    if not len(positions):
        raise TrainingError("training images must be at least 1; got 0. Check --input, --exclude and the shares.")
    generator = torch.Generator().manual_seed(run.seed)
    positions = positions.repeat(max(1, -(-config.epoch_steps * config.batch_size // len(positions))))
    size = min(config.batch_size, len(positions))
    steps = len(positions) // size  # the rest of an epoch's order is dropped: every batch has the same size
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    total = steps * config.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=max(total, 4))
    averaged = AveragedWeights(module, config.ema)
    gradients = Gradients(loss, parameters, run.device)
    kept = run.checkpoint
    if kept is not None:
        random = Generators(generator, *draws)
        kept.keep(weights=module, optimizer=optimizer, schedule=schedule, averaged=averaged, random=random)
    module.train()
    done = 0 if kept is None else config.epochs if kept.ended else kept.epochs
    for epoch in run.epochs(range(done, config.epochs)):
        order = positions[torch.randperm(len(positions), generator=generator)]
        for step in run.steps(steps):
            batch = order[step * size : (step + 1) * size]
            with torch.no_grad():
                maps = prepare([x.to(run.device) for x in features.read(batch)])
                sigma = config.noise * (1 - (epoch * steps + step) / total)
                if sigma:
                    maps = [x + sigma * torch.randn(x.shape, generator=generator).to(run.device) for x in maps]
            value = gradients.set(maps)
            norm = nn.utils.clip_grad_norm_(parameters, config.gradient_norm)
            if not math.isfinite(value) or not math.isfinite(float(norm)):
                raise TrainingError(
                    f"loss and gradient must be finite; got loss {value} and gradient norm {float(norm)} at epoch "
                    f"{epoch + 1}, step {step + 1} of {steps}. Lower learning_rate (now {config.learning_rate}), or use "
                    "precision float32."
                )
            optimizer.step()
            schedule.step()
            averaged.update()
            run.on_step(Step(epoch, config.epochs, step, steps, value))
        ended = epoch + 1 == config.epochs
        if run.after_epoch is not None:
            with averaged.in_place():
                ended = run.after_epoch(epoch) or ended
        if kept is not None:
            kept.save(epoch + 1, ended)
        if ended:
            break
    averaged.copy_to_module()
    module.eval()
