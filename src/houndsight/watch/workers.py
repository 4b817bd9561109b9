"""Which of several workers of a distributed training this process is, and what the first one tells the others."""

from collections.abc import Callable

import torch
from torch import distributed


def rank() -> int:
    """Number of this process in the distributed training, 0 where there is none."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def shared(make: Callable[[], str]) -> str:
    """What `make` returned in the first worker, in all of them: names of folders are to be the same."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return make()
    device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
    text = make().encode() if rank() == 0 else b""
    length = torch.tensor([len(text)], device=device)
    distributed.broadcast(length, 0)
    letters = torch.zeros(int(length), dtype=torch.uint8, device=device)
    if rank() == 0:
        letters = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)
    distributed.broadcast(letters, 0)
    return bytes(letters.cpu().tolist()).decode()
