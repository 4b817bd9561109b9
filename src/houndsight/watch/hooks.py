"""Puts a clock to a loop that others wrote: where batches come, modules run, gradients flow, weights move.

Optimizers are watched by torch's own hooks. For the rest torch has none that leave the user's objects as they are (a
hook on a module is copied by `deepcopy` and breaks `torch.save` of it), so functions of torch's classes are wrapped
while the profile lasts and put back at its end, whatever happened.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import optimizer as optimizers
from torch.utils.data import DataLoader, dataloader

from houndsight.watch.clock import LoopClock
from houndsight.watch.seen import Seen

_COPIES = ("to", "cuda", "cpu", "clone", "copy_", "pin_memory")
_WAITS = ("item", "tolist", "numpy", "__float__", "__int__", "__bool__")
"""What makes the CPU wait for a GPU; on a CPU they cost nothing and are left alone."""


class Onlooker(Protocol):
    """Who is told what the loop itself calls, in the thread that is watched."""

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """The loop calls a module; whether its end is to be told, too."""
        ...

    def after(self, module: nn.Module, made: Any) -> None:
        """The module has made this."""
        ...

    def over(self) -> None:
        """The call is over, also where it failed."""
        ...

    def backward(self, loss: Any) -> None:
        """Gradients are about to be computed from this."""
        ...


class Hooks:
    """The hooks of one profile, from `attach` to `detach`."""

    def __init__(
        self,
        clock: LoopClock,
        seen: Seen,
        *,
        on_step: Callable[[], None],
        waits: bool,
        onlooker: Onlooker | None = None,
    ) -> None:
        """`on_step` is called after each optimizer step; `waits` says whether waiting for a GPU is watched."""
        self._clock, self._seen, self._on_step, self._waits = clock, seen, on_step, waits
        self._onlooker = onlooker
        self._undo: list[Callable[[], None]] = []

    def attach(self) -> None:
        """Wrap and register everything."""
        self._wrap(dataloader._BaseDataLoaderIter, "__next__", self._next)
        self._wrap(DataLoader, "__iter__", self._iter)
        self._wrap(nn.Module, "__call__", self._call)
        self._wrap(torch.Tensor, "backward", self._backward)
        self._wrap(torch.autograd, "backward", self._timed("backward"))
        self._wrap(torch.autograd, "grad", self._timed("backward"))
        self._wrap(torch, "save", self._timed("checkpoint"))
        if "safetensors.torch" in sys.modules:
            self._wrap(sys.modules["safetensors.torch"], "save_file", self._timed("checkpoint"))
        for name in _COPIES:
            self._wrap(torch.Tensor, name, self._timed("copy"))
        for name in _WAITS if self._waits else ():
            self._wrap(torch.Tensor, name, self._timed("sync"))
        before = optimizers.register_optimizer_step_pre_hook(self._before_step)
        after = optimizers.register_optimizer_step_post_hook(self._after_step)
        self._undo += [before.remove, after.remove]

    def detach(self) -> None:
        """Put everything back as it was."""
        while self._undo:
            self._undo.pop()()

    def _wrap(self, owner: Any, name: str, around: Callable[[Any], Any]) -> None:
        own = vars(owner).get(name)
        setattr(owner, name, around(getattr(owner, name)))

        def restore() -> None:
            if own is None:  # it was inherited
                delattr(owner, name)
            else:
                setattr(owner, name, own)

        self._undo.append(restore)

    def _timed(self, part: str) -> Callable[[Any], Any]:
        clock = self._clock

        def around(original: Any) -> Any:
            @wraps(original)
            def timed(*args: Any, **kwargs: Any) -> Any:
                if torch.compiler.is_compiling() or not clock.mine():
                    return original(*args, **kwargs)
                clock.enter(part)
                try:
                    return original(*args, **kwargs)
                finally:
                    clock.leave()

            return timed

        return around

    def _backward(self, original: Any) -> Any:
        clock, onlooker = self._clock, self._onlooker

        @wraps(original)
        def backward(loss: Tensor, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not clock.mine():
                return original(loss, *args, **kwargs)
            clock.enter("backward")
            try:
                if onlooker is not None:
                    onlooker.backward(loss)
                return original(loss, *args, **kwargs)
            finally:
                clock.leave()

        return backward

    def _next(self, original: Any) -> Any:
        clock, seen = self._clock, self._seen

        @wraps(original)
        def following(iterator: Any) -> Any:
            if not clock.mine():
                return original(iterator)
            clock.enter("data")
            waiting = seen.waiting_for(iterator)
            try:
                return original(iterator)
            finally:
                waiting()
                clock.leave()

        return following

    def _iter(self, original: Any) -> Any:
        clock, seen = self._clock, self._seen

        @wraps(original)
        def started(loader: Any) -> Any:
            if not clock.mine():
                return original(loader)
            clock.enter("data")  # its workers are started here
            try:
                iterator = original(loader)
                seen.loader(loader, iterator)
                return iterator
            finally:
                clock.leave()

        return started

    def _call(self, original: Any) -> Any:
        clock, seen, onlooker = self._clock, self._seen, self._onlooker

        @wraps(original)
        def called(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not clock.mine():
                return original(module, *args, **kwargs)
            trains = torch.is_grad_enabled() and module.training
            clock.enter("forward" if trains else "evaluate")
            try:
                if trains:
                    seen.module(module, args, kwargs)
                if onlooker is None or not onlooker.before(module, args, kwargs):
                    return original(module, *args, **kwargs)
                try:
                    made = original(module, *args, **kwargs)
                    onlooker.after(module, made)
                    return made
                finally:
                    onlooker.over()
            finally:
                clock.leave()

        return called

    def _before_step(self, *_: Any) -> None:
        if self._clock.mine():
            self._clock.enter("optimizer")

    def _after_step(self, *_: Any) -> None:
        if self._clock.in_optimizer():
            self._clock.leave()
            self._on_step()
