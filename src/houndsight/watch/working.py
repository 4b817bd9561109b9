"""The debugger's care for the training it watches: its own work is timed, and its mistakes stay its own."""

import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import torch

from houndsight.watch.governor import Governor
from houndsight.watch.modules import Hook


class Careful(Protocol):
    """What works beside a training."""

    governor: Governor
    strict: bool

    def broke(self, error: Exception) -> None:
        """A mistake of its own: let go of the training."""
        ...


class Working:
    """Around the debugger's own work in the training's thread: times it, and keeps its mistakes from the training."""

    def __init__(self, debugger: Careful, *, timed: bool = True) -> None:
        self._debugger, self._timed = debugger, timed

    def __enter__(self) -> None:
        self._start = time.thread_time()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if self._timed:
            self._debugger.governor.timed(self._start)
        if isinstance(error, Exception) and not self._debugger.strict:
            self._debugger.broke(error)
            return True
        return False


def scale_of(optimizer: torch.optim.Optimizer) -> float | None:
    """How many times too large the gradients still are: the fused kernels unscale inside the step."""
    scale = vars(optimizer).get("grad_scale")
    return None if scale is None else float(scale)


def calling(method: Callable[..., None]) -> Hook:
    """A hook that does not keep the debugger alive."""
    weak = weakref.WeakMethod(method)

    def hook(*given: Any) -> None:
        alive = weak()
        if alive is not None:
            alive(*given)

    return Hook(hook)
