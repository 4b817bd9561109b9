"""Features of every image by the frozen part of a network, computed once and kept; heads, trials and audits read them.

Keyed by what they depend on: the files, the preprocessing, the weights themselves and the arithmetic.
"""

import copy
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from houndsight.data.augment import Augment
from houndsight.data.cache import DecodedImages
from houndsight.data.images import centre
from houndsight.data.loader import ImageBatches
from houndsight.errors import JobError
from houndsight.features.store import cached
from houndsight.models.network import Network
from houndsight.models.runtime import EagerRuntime, Runtime, fastest
from houndsight.spec import Index, SplitName
from houndsight.workspace import Progress

log = logging.getLogger("houndsight")

FORMAT_VERSION = 1
BATCH = 16
"""Images a call of the runtime, which takes them in parts of its own."""
SAMPLE = 16
"""Images on which the runtime is compared with eager float32."""


@dataclass(frozen=True)
class Features:
    """Features of each split, (n, D) float32 or maps (n, ...), in the order of the split's columns."""

    splits: dict[SplitName, NDArray[np.float32]]
    runtime: str
    """What computed them."""


class _Backbone(nn.Module):
    """uint8 images (B, 3, S, S) -> features (B, D), as a module of its own."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network.features(images)


class Extractor:
    """Computes features with the fastest runtime that agrees with eager float32, or takes them from the cache.

    `front` is the frozen part up to some depth (see `features.depth`); without it the whole backbone is. `precision`
    float32 keeps every product in float32: the features then equal eager torch's to rounding.
    """

    def __init__(
        self,
        network: Network,
        index: Index,
        images: DecodedImages,
        cache: Path,
        *,
        front: nn.Module | None = None,
        precision: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._network, self._index, self._images = network, index, images
        self._folder = cache / "features"
        self._precision, self._device, self._threads = precision, device, threads
        self._progress = progress
        self._runtime: Runtime | None = None
        self._front = _Backbone(network) if front is None else front
        self._weights = weights_hash(network.backbone if front is None else front)
        self._side = network.preprocess.image_size
        self._shape = self._shape_of_one()

    @property
    def bytes_each(self) -> int:
        """Room that the features of one image take."""
        return 4 * int(np.prod(self._shape))

    def _shape_of_one(self) -> tuple[int, ...]:
        if isinstance(self._front, _Backbone):
            return (next(each.in_features for each in self._network.head.modules() if isinstance(each, nn.Linear)),)
        with torch.inference_mode():
            return tuple(self._front(torch.zeros(1, 3, self._side, self._side, dtype=torch.uint8)).shape[1:])

    def features(self) -> Features:
        """Every split's features, without augmentation."""
        rows = np.unique(np.concatenate([self._images.rows(split) for split in self._index.splits]))
        array = cached(
            self._folder,
            self._key("plain", rows.tobytes().hex()),
            (len(rows), *self._shape),
            lambda out: self._fill(out, self._plain(rows), len(rows)),
        )
        place = {int(row): at for at, row in enumerate(rows)}
        found = {split: [place[int(row)] for row in self._images.rows(split)] for split in self._index.splits}
        # Maps that lie in a row are read where they lie: they may be larger than the memory.
        there = {split: array.ndim > 2 and _in_a_row(at) for split, at in found.items()}
        splits = {split: array[at[0] : at[-1] + 1] if there[split] else array[at] for split, at in found.items()}
        return Features(splits, self._runtime.name if self._runtime else "the cache")

    def views(self, count: int, seed: int, augment: Augment) -> NDArray[np.float32]:
        """(count, n, D): `count` seeded augmentations of every training image."""
        number = len(self._index.splits["train"])
        batches = ImageBatches(
            self._index, self._images, self._network.preprocess, batch_size=BATCH, seed=seed, augment=augment
        )

        def pictures() -> Iterator[NDArray[np.uint8]]:
            for view in range(count):
                for batch in batches.view(view):
                    yield batch.images.permute(0, 2, 3, 1).numpy()

        return cached(
            self._folder,
            self._key("views", f"{count} {seed} {augment} {self._order()}"),
            (count, number, *self._shape),
            lambda out: self._fill(out.reshape(count * number, *self._shape), pictures(), count * number),
        )

    def _order(self) -> str:
        return hashlib.sha256("\n".join(self._index.splits["train"].paths).encode()).hexdigest()

    def _plain(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        for at in range(0, len(rows), BATCH):
            squares = np.asarray(self._images.pixels[rows[at : at + BATCH]])
            yield np.ascontiguousarray(centre_batch(squares, self._side))

    def _fill(self, out: NDArray[np.float32], batches: Iterator[NDArray[np.uint8]], total: int) -> None:
        runtime = self._choose()
        done = 0
        for answer in runtime.map(batches):
            if not np.isfinite(answer).all():
                raise JobError(
                    f"The features that {self._network.name} computes are not finite.",
                    "Look at the weights file, or give --precision float32.",
                )
            out[done : done + len(answer)] = answer
            done += len(answer)
            if self._progress is not None:
                self._progress("features", done, total)

    def _choose(self) -> Runtime:
        if self._runtime is None:
            sample = self._images.sample("train", SAMPLE, self._side)
            self._runtime = fastest(
                self._front, sample, precision=self._precision, device=self._device, threads=self._threads
            )
            log.info("Features are computed once, by %s.", self._runtime.name)
        return self._runtime

    def _key(self, kind: str, what: str) -> str:
        parts = [
            FORMAT_VERSION, kind, self._images.stamp, self._network.preprocess.model_dump(), self._weights,
            "float32" if self._precision == "float32" else f"{self._device} fastest", what,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _in_a_row(places: list[int]) -> bool:
    return len(places) > 0 and places == list(range(places[0], places[0] + len(places)))


def centre_batch(squares: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The centres (B, side, side, 3) of squares (B, R, R, 3), as `data.images.centre` cuts one."""
    return np.stack([centre(square, side) for square in squares]) if len(squares) else squares[:, :side, :side]


def weights_hash(module: nn.Module) -> str:
    """sha256 over names and values of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def eager_features(network: Network, images: NDArray[np.uint8], cache: Path) -> NDArray[np.float32]:
    """(n, D): what the backbone gives for `images` (n, S, S, 3) in eager float32, computed once for all jobs."""
    parts = [FORMAT_VERSION, "eager", weights_hash(network.backbone), network.preprocess.model_dump(), images.shape]
    key = hashlib.sha256(json.dumps(parts).encode() + np.ascontiguousarray(images).tobytes()).hexdigest()[:24]
    width = next(each.in_features for each in network.head.modules() if isinstance(each, nn.Linear))

    def fill(out: NDArray[np.float32]) -> None:
        front = EagerRuntime(_Backbone(copy.deepcopy(network)))  # which it takes to the CPU
        for at in range(0, len(images), BATCH):
            out[at : at + BATCH] = front(np.ascontiguousarray(images[at : at + BATCH]))

    return cached(cache / "features", key, (len(images), width), fill)
