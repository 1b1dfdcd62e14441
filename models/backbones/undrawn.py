"""Networks whose weights are read from an artifact afterwards: no random values are drawn for them first."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from models.backbones.weights import BackboneError

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


def undrawn(build: Callable[[], nn.Module]) -> nn.Module:
    """The module with arbitrary weights, in memory that is reserved and not touched. All else is made as always: buffers and
    tables often follow from the arguments, and no state dict holds them.

    The weights are on torch's meta device while it is built, so that what would initialise them does nothing. timm's modules
    that make tables on their weights' device, as Swin does, make them again afterwards. A module that fails without values is
    built as usual, and one line says so; numpy raises TypeError then, which looks like one of wrong arguments.

    >>> module = undrawn(lambda: nn.BatchNorm2d(3))
    >>> module.weight.shape, module.running_var
    (torch.Size([3]), tensor([1., 1., 1.]))
    """
    try:
        with _parameters_on_meta():
            module = build()
        _make_room(module)
        for part in module.modules():
            make_tables: Any = getattr(part, "init_non_persistent_buffers", None)
            if make_tables is not None:
                make_tables()
        unmade = [name for name, tensor in _held(module) if tensor.is_meta]
        if not unmade:
            return module
        reason = f"{unmade[0]} was made from the weights"
    except (
        RuntimeError,
        TypeError,
        BackboneError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
    log.warning("backbone: random weights are drawn before its own are read, which takes seconds (%s)", reason)
    return build()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Parameters that this thread's modules register lose their values. Other threads may build modules meanwhile."""
    thread = threading.get_ident()

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or threading.get_ident() != thread:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def _make_room(module: nn.Module) -> None:
    """Give every parameter on the meta device memory on the CPU in its own layout, with arbitrary content."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.is_meta:
                room = torch.empty_like(parameter, device="cpu")
                part._parameters[name] = nn.Parameter(room, requires_grad=parameter.requires_grad)


def _held(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a module by name, parameters, buffers and those that it merely refers to."""
    for prefix, part in module.named_modules():
        for values in (part._parameters, part._buffers, vars(part)):
            for name, value in values.items():
                if isinstance(value, Tensor):
                    yield f"{prefix}.{name}".lstrip("."), value
