"""Hears the losses that a loop of anybody's own computes, by torch.nn.functional, as a module or as a function.

Loss modules call the functions of `torch.nn.functional` when they run, so wrapping these hears both. The functions come
back when the last block ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FUNCTIONS = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "kl_div",
    "multi_margin_loss",
    "soft_margin_loss",
)
"""What is listened to. A loss inside a compiled function is not heard: `Debugger.loss` takes it."""

Hear = Callable[[str, Tensor, Tensor, Tensor, dict[str, Any]], None]
"""Told (name, loss, what the loss was given, the target, further arguments)."""


_hearing: list[Hear] = []
_functions: dict[str, Callable[..., Tensor]] = {}


@contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """While it lasts every loss of this process is told to `hear`; the losses themselves stay what they are.

    Several may listen at once, and end in any order: the functions come back when nobody listens any more.
    """
    if not _hearing:
        inside: list[str] = []
        for name in FUNCTIONS:
            _functions[name] = getattr(functional, name)
            setattr(functional, name, _wrapped(name, _functions[name], inside))
    _hearing.append(hear)
    try:
        yield
    finally:
        _hearing.remove(hear)
        if not _hearing:
            for name, function in _functions.items():
                setattr(functional, name, function)


def _wrapped(name: str, function: Callable[..., Tensor], inside: list[str]) -> Callable[..., Tensor]:
    @wraps(function)
    def call(input: Tensor, target: Tensor, *further: Any, **named: Any) -> Tensor:  # noqa: A002 - torch's name
        if inside or torch.compiler.is_compiling():  # cross_entropy may call nll_loss
            return function(input, target, *further, **named)
        inside.append(name)
        try:
            loss = function(input, target, *further, **named)
        finally:
            inside.pop()
        for hear in tuple(_hearing):
            hear(name, loss, input, target, named)
        return loss

    # What compilers of torch's own are to take in its place: the source of the function itself.
    vars(call).update({"__script_if_tracing_wrapper": True, "__original_fn": function})
    return call
