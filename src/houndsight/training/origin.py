"""Watches every operation of one step for the first number that is not finite; what a replay finds out.

An operation is the origin where all it was given is finite and something it made or changed is not. The module it
belongs to is followed through forward and backward pass.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from houndsight.data.loader import Batch

UNFILLED = ("empty", "new_empty", "empty_like", "empty_strided", "resize_")
"""Operations that give memory as it is."""


@dataclass(frozen=True)
class Origin:
    """The first operation whose result is not finite."""

    phase: str
    """`input`, `forward`, `backward`, `optimizer`, or `evaluation` behind the step."""
    layer: str
    """The module it belongs to, by its path in the network; empty for what lies outside of all."""
    operation: str
    """Name of the operation in torch."""
    values: int
    """How many values are not finite."""
    largest: float
    """The largest magnitude among what it was given."""
    rows: tuple[int, ...]
    """The images of the batch whose values are not finite, where they can be told apart: places in the batch."""


class Inspector(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is on every operation is looked at; `origin` is the first that went bad, or None."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.origin: Origin | None = None
        self._network = network
        self._prefix = type(network).__name__
        self._tracker = ModuleTracker()
        self._rows = 0
        self._phase = ""
        self._stack = ExitStack()

    def begin(self, batch: Batch, phase: str = "") -> Self:
        """Look at all operations from now on, which work on this batch."""
        self._rows = len(batch.ids)
        given = batch.images
        if given.is_floating_point() and not bool(torch.isfinite(given).all()):
            bad = ~torch.isfinite(given).reshape(self._rows, -1).all(dim=1)
            rows = tuple(bad.nonzero()[:, 0].tolist())
            self.origin = Origin("input", "", "", int((~torch.isfinite(given)).sum()), float("nan"), rows)
        self._phase = phase
        self._stack.enter_context(self._tracker)
        self._stack.enter_context(self)
        return self

    def end(self) -> None:
        """Look no more."""
        self._stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation, and look at what it was given and made."""
        named = kwargs or {}
        given = [each for each in _tensors((args, named)) if each.numel()]
        if self.origin is not None or not given or _watching():  # without tensors it is a constant, such as -inf
            return func(*args, **named)
        sound = all(_finite(each) for each in given)
        largest = max((float(each.detach().abs().max()) for each in given), default=0.0) if sound else float("nan")
        made = func(*args, **named)
        name = str(func).removeprefix("aten.").partition(".")[0]
        if sound and name not in UNFILLED:
            for each in _tensors((made, args, named)):
                if not _finite(each):
                    self.origin = self._describe(name, each, largest)
                    break
        return made

    def _describe(self, name: str, tensor: Tensor, largest: float) -> Origin:
        bad = ~torch.isfinite(tensor)
        rows: tuple[int, ...] = ()
        phase = self._phase or ("backward" if self._tracker.is_bw else "forward")
        if name.startswith(("_fused_", "_foreach_")):
            phase = "optimizer"
        if phase != "optimizer" and tensor.ndim > 1 and tensor.shape[0] == self._rows:
            rows = tuple(bad.reshape(self._rows, -1).any(dim=1).nonzero()[:, 0].tolist())
        layer = max(self._tracker.parents - {"Global"}, key=len, default="")
        layer = layer.removeprefix(self._prefix).removeprefix(".")
        if phase == "optimizer":
            layer = next((key for key, each in self._network.named_parameters() if not _finite(each)), "")
        return Origin(phase, layer, name, int(bad.sum()), largest, rows)


def _watching() -> bool:
    """Whether the operation is the debugger's own."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("houndsight.watch."):
            return True
        frame = frame.f_back
    return False


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        if given.is_floating_point():
            yield given
    elif isinstance(given, dict):
        for each in given.values():
            yield from _tensors(each)
    elif isinstance(given, tuple | list):
        for each in given:
            yield from _tensors(each)


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())
