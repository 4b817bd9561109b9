"""A short look at the network after its training: FLOPs a step, the machine's rate, what larger batches cost.

All of it works on copies; the network that was trained is not touched. It takes about a second, and only where asked.
"""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from houndsight.watch.seen import Outline, filled
from houndsight.workspace import friendly_disk_errors, write_json

_SIDE = 512
_RATE_SECONDS = 0.15
_PROBE_SECONDS = 0.25
_SUSPECT_BATCH = 16
"""Larger batches are not probed."""
_LARGER = 32
_LONG = 0.25


def look(network: nn.Module, args: Any, kwargs: Any, batch: int, cache: Path | None = None) -> dict[str, Any]:
    """The facts of `records.profiling.run.Facts` that come from the network: FLOPs, rates and the probe."""
    device = next(network.parameters()).device.type
    found: dict[str, Any] = {
        "flops_per_step": flops(network, args, kwargs),
        "flop_rate": flop_rate(device, cache),
        "probe": probe(network, args, kwargs, batch),
    }
    if device == "cpu" and torch.cuda.is_available():
        found["gpu_flop_rate"] = flop_rate("cuda", cache)
    return found


def look_at_images(network: nn.Module, batch: int, side: int, cache: Path | None = None) -> dict[str, Any]:
    """`look` at a network that takes uint8 images (B, 3, side, side)."""
    images = Outline(torch.empty((batch, 3, side, side), dtype=torch.uint8, device="meta"))
    with torch.random.fork_rng(), torch.enable_grad():
        return look(network, (images,), {}, batch, cache)


def flops(network: nn.Module, args: Any, kwargs: Any) -> float | None:
    """Operations of one training step on inputs of that outline; None where the network cannot be traced.

    Counted on a copy without memory (torch's meta device), so it costs no arithmetic; operations that torch does not
    count, such as normalisation and activations, are left out.
    """
    memo: dict[int, Any] = {}
    for each in network.parameters():
        memo[id(each)] = nn.Parameter(torch.empty_like(each, device="meta"), requires_grad=each.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    try:
        ghost = copy.deepcopy(network, memo)
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(_summed(ghost(*filled(args, "meta", 0, 0), **filled(kwargs, "meta", 0, 0))))
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError):
        return None  # it looks at numbers, which a ghost has none of
    return float(counter.get_total_flops()) or None


def flop_rate(device: str, cache: Path | None = None) -> float:
    """Operations a second in products of large float32 matrices, measured for 0.15 s; kept in `cache` for 30 days."""
    key = f"flops-{device}-{torch.get_num_threads()}-{torch.__version__}.json"
    place = cache / key if cache is not None else None
    if place is not None and place.is_file() and time.time() - place.stat().st_mtime < 30 * 86400:
        return float(json.loads(place.read_bytes())["flops"])
    left = torch.randn(_SIDE, _SIDE, device=device)
    best, began, count = float("inf"), time.perf_counter(), 0
    while count < 5 or time.perf_counter() - began < _RATE_SECONDS:
        best, count = min(best, _seconds(lambda: left @ left, device)), count + 1
    rate = 2.0 * _SIDE**3 / best
    if place is not None:
        with friendly_disk_errors(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {"flops": rate})
    return rate


def probe(network: nn.Module, args: Any, kwargs: Any, batch: int) -> tuple[tuple[int, float], ...]:
    """(batch size, seconds for forward and backward) at the present size and at a larger one; empty where that is moot.

    The least of several repeats on a copy: what the network costs, not what else the machine did.
    """
    if batch > _SUSPECT_BATCH:
        return ()
    device = next(network.parameters()).device.type
    found = []
    try:
        twin = copy.deepcopy(network)
        for size in (batch, max(_LARGER, 4 * batch)):
            given, named = filled(args, device, batch, size), filled(kwargs, device, batch, size)
            run = _pass(twin, given, named)
            run()  # takes memory and chooses kernels
            if _seconds(run, device) > _LONG:
                return ()  # a step so long is not made of fixed costs
            best, began, count = float("inf"), time.perf_counter(), 0
            while count < 2 or time.perf_counter() - began < _PROBE_SECONDS:
                best, count = min(best, _seconds(run, device)), count + 1
            found.append((size, best))
    except (RuntimeError, TypeError, ValueError):
        return ()  # it takes no other batch, or no memory is left for one
    return tuple(found)


def _pass(network: nn.Module, args: Any, kwargs: Any) -> Callable[[], object]:
    def run() -> None:
        network.zero_grad(set_to_none=True)
        torch.autograd.backward(_summed(network(*args, **kwargs)))

    return run


def _summed(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output.float().sum()
    if isinstance(output, dict):
        output = tuple(output.values())
    total = sum(each.float().sum() for each in output if isinstance(each, Tensor) and each.requires_grad)
    if not isinstance(total, Tensor):
        raise TypeError("the network returns no tensor")
    return total


def _seconds(run: Callable[[], object], device: str) -> float:
    """Wall time; with one CPU thread its CPU time, in which no neighbour shows."""
    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.thread_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began
