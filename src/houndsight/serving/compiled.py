"""A network compiled by OpenVINO, from the prepared model's file to logits; no torch, so it starts in a second.

Static batch sizes only: int8 with a dynamic batch has crashed on processors with AMX.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from houndsight.models.private import core

Pixels = NDArray[np.uint8]


class Compiled:
    """uint8 images (B, S, S, 3) -> logits (B, C); one compiled network a batch size, shared by all threads."""

    def __init__(
        self, model: Path, precision: str, *, sizes: Sequence[int], threads: int, blobs: Path | None = None
    ) -> None:
        """`model` is an OpenVINO .xml, `precision` f32 or bf16, `sizes` batch sizes with 1 among them.

        `threads` is how many callers compute at once, each on one core. `blobs` is where compiled networks are kept:
        their weights are then mapped from the file, and instances share those pages.
        """
        config: dict[str, str | int | bool] = {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # instances side by side would all be pinned to the same cores
        }
        if blobs is not None:
            config["CACHE_DIR"] = str(blobs)
        self.sizes = tuple(sorted(sizes, reverse=True))
        self._networks = {}
        for size in self.sizes:
            network = core().read_model(model)
            _, *row = network.input(0).get_partial_shape()
            network.reshape([size, *(int(side.get_length()) for side in row)])
            self._networks[size] = core().compile_model(network, "CPU", config)
        self._local = threading.local()

    def __call__(self, images: Pixels) -> NDArray[np.float32]:
        """Run a batch of any length as a sum of the static sizes; each thread has requests of its own."""
        parts = []
        done = 0
        for size in self.sizes:
            while len(images) - done >= size:
                parts.append(self._run(size, images[done : done + size]))
                done += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, size: int, images: Pixels) -> NDArray[np.float32]:
        requests = getattr(self._local, "requests", None)
        if requests is None:
            requests = self._local.requests = {}
        if size not in requests:
            requests[size] = self._networks[size].create_infer_request()
        found = requests[size].infer([images], share_inputs=True, share_outputs=True)[0]
        return np.array(found, dtype=np.float32)
