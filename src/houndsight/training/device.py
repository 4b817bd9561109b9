"""Where a training computes, how precisely, with how many threads and from which seeds; decided before the loop."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch

from houndsight.errors import SpecError
from houndsight.spec import ClassifierSpec
from houndsight.training.checkpoint import get_generators, set_generators


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is a CUDA GPU where there is one, then Apple's, then the CPU.

    Raises `SpecError` where a device was asked for by name and is not there.
    """
    present: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return torch.device(next(each for each, there in present.items() if there()))
    if not present[name]():
        raise SpecError(f"device: there is no {name} device on this machine.", "Leave --device out, or give cpu.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """float32 or bfloat16; `auto` is bfloat16 on GPUs that compute in it and on CPUs with AMX, else float32.

    AVX512_BF16 alone does not pay: fine-tuning MobileNetV2 ran at 24 images a second with it against 27 in float32
    (2 cores of an AMD EPYC, channels last), because every weight and activation is converted around each layer.
    """
    if name == "auto":
        if device.type == "cuda":
            faster = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            faster = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))
        name = "bfloat16" if faster else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """A context to enter around each forward pass, as often as wanted; the weights stay float32 (autocast)."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


@contextmanager
def settled(spec: ClassifierSpec, device: torch.device) -> Iterator[None]:
    """Seed every generator and set the CPU threads as the spec says; the caller's own come back at the end."""
    threads, before = torch.get_num_threads(), get_generators(device)
    try:
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        torch.manual_seed(spec.seed)
        np.random.seed(spec.seed % 2**32)
        random.seed(spec.seed)
        yield
    finally:
        torch.set_num_threads(threads)
        set_generators(before, device)
