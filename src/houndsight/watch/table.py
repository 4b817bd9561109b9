"""The way of a step's numbers from their device to the host: stacked there, moved once, read later."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Some rows of statistics."""

    names: tuple[str, ...]
    """Names of the tensors, one a row."""
    table: Tensor
    """(T, WIDTH) float32 on their device."""


@dataclass(frozen=True)
class Transfer:
    """Rows that are on the host, or will be when `ready` has happened."""

    names: tuple[str, ...]
    table: Tensor | None
    """(T, WIDTH) float32, in pinned memory where it comes from a GPU; None where there are no rows."""
    ready: torch.cuda.Event | None


def moved(blocks: Sequence[Block]) -> Transfer:
    """All rows on their way to the host, in one copy a device; on a GPU nothing is waited for."""
    names = tuple(name for block in blocks for name in block.names)
    if not names:
        return Transfer((), None, None)
    devices = {block.table.device for block in blocks}
    if len(devices) > 1:
        parts = [moved([block for block in blocks if block.table.device == device]) for device in devices]
        for part in parts:
            if part.ready is not None:
                part.ready.synchronize()
        return Transfer(
            tuple(name for part in parts for name in part.names),
            torch.cat([part.table for part in parts if part.table is not None]),
            None,
        )
    return Transfer(names, *to_host(torch.cat([block.table for block in blocks])))


def to_host(tensor: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """The numbers on the host, or on their way there until the event has happened."""
    if not tensor.is_cuda:
        return tensor.cpu(), None
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
    ready.record()
    return host, ready
