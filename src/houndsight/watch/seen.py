"""What the hooks learn of a loop while it runs: its loaders and workers, its network, its batch; the facts of a run."""

import time
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from houndsight.watch.clock import LoopClock
from houndsight.watch.window import Window


class Seen:
    """Gathered step by step; a few microseconds each."""

    def __init__(self) -> None:
        self.loaders: weakref.WeakSet[Any] = weakref.WeakSet()
        self.workers: int | None = None
        self.pin_memory: bool | None = None
        self.pids: set[int] = set()
        self.waits: dict[int, list[float]] = {}
        self.batches: Counter[int] = Counter()
        self.newest: Any = None
        """The loader that was started last, by a weak reference; None before there is one."""
        self.device: str | None = None
        self.precision: str | None = None
        self._last: nn.Module | None = None  # kept alive, to be looked at when the loop has ended
        self._modules: dict[int, tuple[weakref.ref[nn.Module], int]] = {}
        self._inputs: dict[int, tuple[Any, Any]] = {}

    def loader(self, loader: Any, iterator: Any) -> None:
        """A data loader was started; the one with the most batches is taken for the training's."""
        self.loaders.add(loader)
        self.newest = weakref.ref(loader)
        workers = getattr(iterator, "_workers", None) or []
        self.pids.update(each.pid for each in workers if each.pid)
        if self.workers is None or loader.num_workers > self.workers:
            self.workers, self.pin_memory = loader.num_workers, loader.pin_memory

    def waiting_for(self, iterator: Any) -> Callable[[], None]:
        """Begin to wait for a batch; the function that is returned notes which worker it came from."""
        tasks = getattr(iterator, "_task_info", None)  # torch's own: batch number -> (worker, ...), for processes only
        if not tasks:
            return _nothing
        place = tasks.get(iterator._rcvd_idx)
        if place is None:
            return _nothing
        worker, began = place[0], time.perf_counter()

        def came() -> None:
            each = self.waits.setdefault(worker, [0, 0.0])
            each[0] += 1
            each[1] += time.perf_counter() - began

        return came

    def module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module was called from the loop itself, to train it."""
        key = id(module)
        known = self._modules.get(key)
        if known is not None and known[0]() is module:
            self._modules[key] = (known[0], known[1] + 1)
            if known[1] > 8:
                return
        else:
            self._modules[key] = (weakref.ref(module), 1)
        first = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        parameter = next(module.parameters(), None)
        if parameter is None or first is None or first.dim() == 0:
            return  # a loss function
        self.batches[first.shape[0]] += 1
        self.device = parameter.device.type
        self._last = module
        cast = torch.is_autocast_enabled(self.device)
        self.precision = str(torch.get_autocast_dtype(self.device) if cast else parameter.dtype).removeprefix("torch.")
        self._inputs[key] = (_outline(args), _outline(kwargs))

    @property
    def batch_size(self) -> int | None:
        """Samples a step, the most frequent."""
        return self.batches.most_common(1)[0][0] if self.batches else None

    def network(self) -> tuple[nn.Module, Any, Any] | None:
        """The largest module that was trained and still lives, and outlines of its arguments; None without one."""
        found: list[tuple[int, nn.Module, Any, Any]] = []
        for key, (reference, _) in self._modules.items():
            module = reference()
            if module is not None and key in self._inputs:
                count = sum(each.numel() for each in module.parameters())
                found.append((count, module, *self._inputs[key]))
        if not found:
            return None
        _, module, args, kwargs = max(found, key=lambda each: each[0])
        plain = getattr(module, "_orig_mod", module)  # what torch.compile was given: compiling again takes long
        return plain, args, kwargs

    def facts(self, clock: LoopClock, window: Window) -> dict[str, Any]:
        """What is known of a loop when it has ended, as fields of `records.profiling.run.Facts`."""
        return {
            "own_loop": True,
            "device": self.device,
            "gpu_usable": torch.cuda.is_available(),
            "workers": self.workers,
            "worker_kind": "processes" if self.workers else None,
            "worker_pids": sorted(self.pids),
            "worker_waits": [
                {"worker": worker, "batches": int(count), "seconds": seconds}
                for worker, (count, seconds) in sorted(self.waits.items())
            ],
            "pin_memory": self.pin_memory,
            "loaders": len(self.loaders) or None,
            "batch_size": self.batch_size,
            "threads": torch.get_num_threads(),
            "precision": self.precision,
            "steps": clock.steps,
            "cpu": clock.cpu,
            "thread_cpu": clock.thread_cpu,
            "operators": window.operators(),
            "window_steps": window.steps,
            "window_stall": window.stall,
        }


class Outline:
    """Shape and type of a tensor, without its numbers."""

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype


def _outline(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Outline(value)
    if isinstance(value, tuple | list):
        return type(value)(_outline(each) for each in value)
    if isinstance(value, dict):
        return {name: _outline(each) for name, each in value.items()}
    return value


def filled(value: Any, device: str, old: int, new: int) -> Any:
    """Arguments as outlined, with random numbers, and `new` samples where there were `old`."""
    if isinstance(value, Outline):
        shape = tuple(new if at == 0 and size == old else size for at, size in enumerate(value.shape))
        if value.dtype.is_floating_point:
            return torch.randn(shape, dtype=value.dtype, device=device)
        most = 256 if value.dtype == torch.uint8 else 1  # zeros are sound positions in any table
        return torch.randint(0, most, shape, device=device).to(value.dtype)
    if isinstance(value, tuple | list):
        return type(value)(filled(each, device, old, new) for each in value)
    if isinstance(value, dict):
        return {name: filled(each, device, old, new) for name, each in value.items()}
    return value


def _nothing() -> None:
    """The batch came from no process."""
