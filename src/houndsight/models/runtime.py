"""Runs a frozen network fast: the choice between eager torch and OpenVINO, checked before it is trusted.

Features and the endpoint call a runtime with decoded images; what it answers is compared with eager float32 on a
sample first, and a runtime that differs too much is not used.
"""

import logging
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from houndsight.models.private import core, openvino, reason

log = logging.getLogger("houndsight")

Images = NDArray[np.uint8]
Outputs = NDArray[np.float32]

MIN_COSINE = 0.995
"""Least cosine between a runtime's output and eager float32, on the worst image of the sample.

OpenVINO bf16 gave 0.9991 on the worst of 63 dogs with MobileNetV2; the head then scores the same."""


class Runtime(Protocol):
    """Maps uint8 images (B, S, S, 3) to float32 outputs (B, D)."""

    name: str

    def __call__(self, images: Images) -> Outputs:
        """Run one batch."""
        ...

    def map(self, batches: Iterator[Images]) -> Iterator[Outputs]:
        """Run many batches, in order, as many at a time as the machine runs at once."""
        ...


@dataclass(frozen=True)
class Agreement:
    """How near a runtime comes to eager float32 on a sample."""

    runtime: str
    cosine: float
    largest: float
    images: int


class EagerRuntime:
    """Plain torch on any device; float32, or bfloat16 by autocast.

    `module` maps uint8 (B, 3, S, S) to floats.
    """

    def __init__(self, module: nn.Module, device: str = "cpu", precision: str = "float32") -> None:
        self.name = f"torch-{device}-{precision}"
        self._module = module.to(device).eval()
        self._device = torch.device(device)
        self._bf16 = precision == "bfloat16"

    def __call__(self, images: Images) -> Outputs:
        """Run one batch."""
        x_BCHW = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            return np.asarray(self._module(x_BCHW).float().cpu().numpy(), dtype=np.float32)

    def map(self, batches: Iterator[Images]) -> Iterator[Outputs]:
        """Run batch after batch; torch spreads each over its own threads."""
        return map(self, batches)


AT_ONCE = 4
"""Images that an OpenVINO network is compiled for: what lies between layers then stays in a core's second-level cache.

Images a second on two AVX512-BF16 cores, compiled for any size and called with 16, and for exactly 1, 2, 4, 8 images:
MobileNetV2 413, 362, 435, 485, 444; EfficientNet-B0 221, 209, 238, 248, 240; ResNet-50 40, 52, 52, 51, 51; ResNet-18
122, 113, 119, 121, 122; ViT-B/16 6, 11, 11, 12, 12."""


class OpenVINORuntime:
    """OpenVINO on the CPU, in bfloat16 where the processor has it (AMX or AVX512-BF16), else float32.

    Measured for MobileNetV2 at 224 px on two AVX512-BF16 cores, CPU-ms an image: bf16 4.1, f32 10.5, eager
    channels_last bf16 13.5, eager f32 37. Conversion takes 1 s with an example batch of one (16 s with 32).
    """

    def __init__(self, module: nn.Module, image_size: int, precision: str, threads: int | None = None) -> None:
        self.name = f"openvino-{'bf16' if precision == 'bfloat16' else 'f32'}"
        config: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        model = convert(module, image_size)
        model.reshape({model.input(0): [AT_ONCE, image_size, image_size, 3]})
        self._compiled = core().compile_model(model, "CPU", config)
        self._streams = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._local = threading.local()

    def __call__(self, images: Images) -> Outputs:
        """Run one batch of any size; several threads may call at once, each has a request of its own."""
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled.create_infer_request()
        short = -len(images) % AT_ONCE
        whole = np.concatenate([images, np.zeros((short, *images.shape[1:]), np.uint8)]) if short else images
        parts = [whole[at : at + AT_ONCE] for at in range(0, len(whole), AT_ONCE)]
        answers = [np.array(request.infer([part])[0], dtype=np.float32) for part in parts]
        return np.concatenate(answers)[: len(images)]

    def map(self, batches: Iterator[Images]) -> Iterator[Outputs]:
        """Keep every stream of the processor busy; answers come in the order of the batches."""
        waiting: deque[Future[Outputs]] = deque()
        with ThreadPoolExecutor(self._streams, "openvino") as pool:
            for images in batches:
                waiting.append(pool.submit(self, images))
                if len(waiting) > 2 * self._streams:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


class _FromNHWC(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x_BHWC: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.module(x_BHWC.permute(0, 3, 1, 2))
        return out


def convert(module: nn.Module, image_size: int) -> Any:
    """The OpenVINO model of `module` with uint8 input (batch, S, S, 3)."""
    ov = openvino()

    example = torch.zeros((1, image_size, image_size, 3), dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad(), _frozen(module):
        warnings.simplefilter("ignore")  # torch calls its own tracing deprecated; OpenVINO still needs it
        traced = torch.jit.trace(_FromNHWC(module), example, check_trace=False)  # type: ignore[no-untyped-call]
        return ov.convert_model(traced, example_input=example, input=[-1, image_size, image_size, 3])


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def agreement(runtime: Runtime, module: nn.Module, sample: Images) -> Agreement:
    """Compare `runtime` with eager float32 on `sample`, image by image."""
    expected, found = (each(sample).reshape(len(sample), -1) for each in (EagerRuntime(module), runtime))
    dot = (expected * found).sum(1)
    norms = np.linalg.norm(expected, axis=1) * np.linalg.norm(found, axis=1)
    cosine = float((dot / np.maximum(norms, 1e-12)).min())
    return Agreement(runtime.name, cosine, float(np.abs(expected - found).max()), len(sample))


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def fastest(
    module: nn.Module, sample: Images, *, precision: str = "auto", device: str = "cpu", threads: int | None = None
) -> Runtime:
    """The fastest runtime at hand whose outputs on `sample` agree with eager float32.

    `module` maps uint8 (B, 3, S, S) to floats (B, D); `sample` is uint8 (B, S, S, 3). With `precision`
    `float32` the outputs are float32 throughout.
    """
    if device != "cpu":
        return EagerRuntime(module, device, "float32" if precision == "float32" else "bfloat16")
    wanted = ["float32"] if precision == "float32" or not cpu_has_bfloat16() else ["bfloat16", "float32"]
    for each in wanted:
        try:
            runtime = OpenVINORuntime(module, sample.shape[1], each, threads)
            found = agreement(runtime, module, sample)
        except RuntimeError as error:  # what OpenVINO raises where it cannot compile a network for this processor
            log.info("OpenVINO is not used in %s: %s", each, reason(error))
            continue
        if found.cosine >= MIN_COSINE:
            return runtime
        log.info(
            "%s is not used: cosine %.4f to eager float32 on %d images.", found.runtime, found.cosine, found.images
        )
    return EagerRuntime(module)
