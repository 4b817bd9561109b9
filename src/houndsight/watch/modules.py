"""What passes through the modules of a network in one saved step; forward hooks that are there only in such steps.

Inputs are taken in forward *pre*-hooks: an activation that works in place, or `out += identity` behind a module, has
not touched them yet. Only samples are kept, copied at once, so no activation lives longer than without the debugger.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from houndsight.watch.statistics import sample

FLAT_BELOW: dict[type[nn.Module], float] = {
    nn.ReLU: 0.0,
    nn.ReLU6: 0.0,
    nn.Hardswish: -3.0,
    nn.GELU: -5.0,
    nn.SiLU: -10.0,
}
"""Activation -> input up to which it and its gradient are nothing; a unit that never comes above it is dead."""

FLAT_BEYOND: dict[type[nn.Module], float] = {nn.Tanh: 2.99, nn.Sigmoid: 5.98, nn.Softsign: 9.0, nn.Hardtanh: 1.0}
"""Activation -> magnitude beyond which its derivative is under 1 % of its greatest."""

ACTIVATIONS = (*FLAT_BELOW, *FLAT_BEYOND, nn.LeakyReLU, nn.ELU, nn.PReLU, nn.Hardsigmoid, nn.Mish, nn.Softplus)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
POSITIONS = 512  # positions of a channel that decide whether it is dead


class Hook:
    """A hook of ours on somebody's module; in a copy of the module, or in one that is pickled, it is nothing at all.

    Moving averages deep-copy the network and some loops pickle all of it: neither is to carry the debugger along.
    """

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call

    def __call__(self, *given: Any) -> None:
        """Pass it on."""
        self._call(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        """What is copied or pickled in its place: a function of Python's own that takes anything and returns None."""
        return getattr, (nullcontext(), "__exit__")


class Tap:
    """Samples of activations, gathered while a step runs."""

    def __init__(self, most: int, takes: Callable[[str], bool], writes: Callable[[str], bool] | None = None) -> None:
        """At most `most` values of a tensor; by name `takes` says whether it is taken, `writes` whether as it is."""
        self._most, self._takes, self._writes = most, takes, writes
        self._handles: list[RemovableHandle] = []
        self._calls: dict[str, int] = {}
        self.samples: dict[str, Tensor] = {}
        """Name of the tensor -> its sampled values."""
        self.sizes: dict[str, int] = {}
        """Name of the tensor -> how many values it has."""
        self.dead: dict[str, Tensor] = {}
        """Name of the tensor -> share of its channels that are nowhere above what the activation lets through, ()."""
        self.saturated: dict[str, Tensor] = {}
        """Name of the tensor -> share of its values where the activation is flat, ()."""
        self.raw: dict[str, Tensor] = {}
        """Name of the tensor -> a copy of it on the host."""

    def arm(self, modules: Sequence[tuple[str, nn.Module, bool]]) -> None:
        """Listen to the modules; of each (name, module, whether its output is taken too) until `disarm`."""
        for name, module, output in modules:
            self._handles.append(module.register_forward_pre_hook(Hook(self._before(name))))
            if output:
                self._handles.append(module.register_forward_hook(Hook(self._after(name))))

    def listen(self, module: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...]], None]) -> None:
        """Call `hook` with what the module is given, until `disarm`."""
        self._handles.append(module.register_forward_pre_hook(Hook(hook)))

    def disarm(self) -> None:
        """Remove every hook."""
        for each in self._handles:
            each.remove()
        self._handles.clear()

    def clear(self) -> None:
        """Forget what was gathered: another step begins."""
        for each in (self._calls, self.samples, self.sizes, self.dead, self.saturated):
            each.clear()
        self.raw = {}

    def add(self, name: str, tensor: Tensor) -> None:
        """Take in one tensor under that name, whole where it is small."""
        if not self._takes(name) or not tensor.is_floating_point() or tensor.numel() == 0:
            return
        with torch.no_grad():
            values = tensor.detach()
            taken = sample(values, self._most)
            # A view would see what is written into the tensor later.
            self.samples[name] = taken.clone() if taken.data_ptr() == values.data_ptr() else taken
            self.sizes[name] = values.numel()
            if self._writes is not None and self._writes(name):
                self.raw[name] = values.to("cpu", copy=True).contiguous()

    def _before(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, given: tuple[Any, ...]) -> None:
            tensor = first_tensor(given)
            if tensor is None or torch._C._current_graph_task_id() != -1:  # recomputed in a backward pass: seen before
                return
            called = self._calls[name] = self._calls.get(name, 0) + 1
            key = f"input/{name}" + (f"#{called}" if called > 1 else "")
            self.add(key, tensor)
            if key in self.samples:
                self._judge(key, module, tensor.detach())

        return hook

    def _after(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_module: nn.Module, _given: tuple[Any, ...], made: Any) -> None:
            tensor = first_tensor(made)
            if tensor is not None and torch._C._current_graph_task_id() == -1:
                called = self._calls.get(name, 1)
                self.add(f"output/{name}" + (f"#{called}" if called > 1 else ""), tensor)

        return hook

    def _judge(self, key: str, module: nn.Module, tensor: Tensor) -> None:
        kind = type(module)
        with torch.no_grad():
            if kind in FLAT_BELOW and tensor.ndim >= 2:
                self.dead[key] = (highest(tensor) <= FLAT_BELOW[kind]).float().mean()
            elif kind in FLAT_BEYOND:
                self.saturated[key] = (self.samples[key].abs() > FLAT_BEYOND[kind]).float().mean()


def highest(tensor: Tensor) -> Tensor:
    """(C,) the highest value of each channel among some hundred positions: dimension 1 of images, else the last."""
    if tensor.ndim == 4:
        per_image = max(1, POSITIONS // tensor.shape[0])
        stride = max(1, int((tensor.shape[2] * tensor.shape[3] / per_image) ** 0.5))
        return tensor[:, :, ::stride, ::stride].amax(dim=(0, 2, 3))
    rows = tensor.reshape(-1, tensor.shape[-1])
    return rows[:: max(1, rows.shape[0] // POSITIONS)].amax(dim=0)


def first_tensor(given: Any) -> Tensor | None:
    """The first tensor in what a module was given or returned; None where there is none."""
    if isinstance(given, Tensor):
        return given
    if isinstance(given, dict):
        given = given.values()
    elif not isinstance(given, tuple | list):
        return None
    return next((found for each in given if (found := first_tensor(each)) is not None), None)


def chosen(name: str, model: nn.Module, wants: Callable[[str], bool]) -> Iterator[tuple[str, nn.Module, bool]]:
    """The modules to listen to: every activation's input, and both sides of modules that were asked for by name.

    A network without a module for its activations is listened to at its linear and convolutional layers.
    """
    modules = [(f"{name}{path}", each) for path, each in model.named_modules() if path]
    kinds: tuple[type[nn.Module], ...] = ACTIVATIONS
    if not any(isinstance(each, kinds) for _, each in modules):
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    for path, each in modules:
        asked = wants(path)
        if asked or isinstance(each, kinds):
            yield path, each, asked
