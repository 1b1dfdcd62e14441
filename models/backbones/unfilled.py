"""Networks whose weights are read from an artifact afterwards: no random values are drawn for them first."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

log = logging.getLogger(__name__)

_follow = ContextVar("weights follow", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """While it lasts, this thread builds detectors whose whole state dict is loaded before their first use.

    >>> with weights_follow():
    ...     do_weights_follow()
    True
    """
    token = _follow.set(True)
    try:
        yield
    finally:
        _follow.reset(token)


def do_weights_follow() -> bool:
    """Whether this thread is inside `weights_follow`.

    >>> do_weights_follow()
    False
    """
    return _follow.get()


def without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """The module with parameters on torch's meta device: they have shapes and no values. Buffers are made as always, because
    many follow from the arguments and no state dict holds them.

    A module that computes something from its parameters while it is built cannot be had this way: it is built as usual, and
    one line says so.

    >>> module = without_weights(lambda: nn.BatchNorm2d(3))
    >>> module.weight.device.type, module.running_var
    ('meta', tensor([1., 1., 1.]))
    """
    try:
        with _parameters_on_meta():
            module = build()
        unmade = [name for name, buffer in held(module) if buffer.is_meta]
        if not unmade:
            return module
        reason = f"{unmade[0]} follows from its weights"
    except (RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
    log.warning("backbone: it is built with random weights before its own are read, which takes time: %s", reason)
    return build()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters that this thread's modules register lose their values. Other threads may build modules meanwhile."""
    thread = threading.get_ident()

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or threading.get_ident() != thread:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        handle.remove()


def held(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a module that is no parameter, by name: buffers, and tensors that it merely refers to.

    >>> [name for name, _ in held(nn.BatchNorm2d(3))]
    ['running_mean', 'running_var', 'num_batches_tracked']
    """
    for prefix, part in module.named_modules():
        for values in (part._buffers, vars(part)):
            for name, value in values.items():
                if isinstance(value, Tensor):
                    yield f"{prefix}.{name}".lstrip("."), value


def make_room(module: nn.Module) -> None:
    """Give every parameter on the meta device memory on the CPU in its own layout, with arbitrary content.

    >>> module = without_weights(lambda: nn.Linear(3, 2))
    >>> make_room(module)
    >>> module.weight.device.type, module.weight.shape
    ('cpu', torch.Size([2, 3]))
    """
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_meta:
                room = torch.empty_like(parameter, device="cpu")
                part._parameters[name] = nn.Parameter(room, requires_grad=parameter.requires_grad)
