"""Batches of images for training and evaluation, from the decoded squares; the last station before the network."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from houndsight.data.augment import Augment, augmented
from houndsight.data.cache import DecodedImages, cores
from houndsight.data.images import centre, resized
from houndsight.spec import Index, Preprocess, SplitName

Ids = npt.NDArray[np.int64]

# The first word of every seed: the order of an epoch and the augmentation of an image never share a stream.
_ORDER, _IMAGE = 1, 2


@dataclass(frozen=True)
class Batch:
    """Some images of one split, or their features."""

    images: torch.Tensor
    """uint8 (B, 3, S, S) with channels_last strides; or float32 (B, D) features."""
    labels: torch.Tensor
    """int64 (B,), positions in `Index.classes`."""
    ids: torch.Tensor
    """int64 (B,), positions in the split's columns."""


class Batches(Protocol):
    """What a training loop reads from: images or features, with one meaning of epoch, order and start."""

    steps_per_epoch: int

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from its `start`-th on; they depend on (seed, epoch) alone."""
        ...

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        """Every image of the split once, in the order of its columns, without augmentation."""
        ...

    def pick(self, split: SplitName, most: int) -> Batch:
        """At most so many images of the split, evenly spread over its columns, without augmentation."""
        ...


class ImageBatches:
    """Batches of images, made ahead by threads.

    The order of an epoch depends on (seed, epoch) alone and the augmentation of an image on (seed, epoch, image)
    alone: neither the number of workers nor where an epoch is resumed changes a bit. The last batch of an epoch may be
    smaller; if it held a single image, which batch normalisation cannot train on, that image waits for another epoch.
    """

    def __init__(
        self,
        index: Index,
        images: DecodedImages,
        preprocess: Preprocess,
        *,
        batch_size: int,
        seed: int,
        augment: Augment = "none",
        workers: int | None = None,
        first: tuple[int, int] | None = None,
    ) -> None:
        """`first` is (side, epochs): so many first epochs are trained on inputs of that smaller side."""
        self._pixels = images.pixels
        self._preprocess, self._augment, self._seed, self._batch_size = preprocess, augment, seed, batch_size
        self._first = first or (preprocess.image_size, 0)
        self._workers = cores() if workers is None else workers
        self._rows = {name: images.rows(name) for name in index.splits}
        self._labels = {name: np.array(split.labels, dtype=np.int64) for name, split in index.splits.items()}
        self.steps_per_epoch = steps(len(index.splits["train"]), batch_size)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from its `start`-th on. Threads end when the iterator is closed or let go."""
        ids = order(len(self._rows["train"]), self._seed, epoch)
        parts = [ids[step * self._batch_size :][: self._batch_size] for step in range(start, self.steps_per_epoch)]
        return self._ahead(parts, lambda part: self._batch("train", part, epoch))

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        """Every image of `split` once, in the order of its columns: the centre of the square."""
        ids = np.arange(len(self._rows[split]))
        parts = [ids[at : at + self._batch_size] for at in range(0, len(ids), self._batch_size)]
        return self._ahead(parts, lambda part: self._batch(split, part, None))

    def pick(self, split: SplitName, most: int) -> Batch:
        """At most so many images of `split`, evenly spread over its columns: the centre of the square."""
        return self._batch(split, spread(len(self._rows[split]), most), None)

    def view(self, epoch: int) -> Iterator[Batch]:
        """Every training image once, in the order of the split's columns, augmented as in `epoch`."""
        ids = np.arange(len(self._rows["train"]))
        parts = [ids[at : at + self._batch_size] for at in range(0, len(ids), self._batch_size)]
        return self._ahead(parts, lambda part: self._batch("train", part, epoch))

    def _batch(self, split: SplitName, ids: Ids, epoch: int | None) -> Batch:
        preprocess = self._preprocess
        if epoch is not None and epoch < self._first[1]:
            preprocess = preprocess.model_copy(update={"image_size": self._first[0]})
        side = preprocess.image_size
        images_NHWC = np.empty((len(ids), side, side, 3), np.uint8)
        for at, (number, row) in enumerate(zip(ids.tolist(), self._rows[split][ids].tolist(), strict=True)):
            square = np.asarray(self._pixels[row])
            if epoch is None or self._augment == "none":
                full = centre(square, self._preprocess.image_size)
                images_NHWC[at] = full if side == len(full) else resized(full, side, side, preprocess.interpolation)
            else:
                rng = np.random.default_rng((_IMAGE, self._seed, epoch, number))
                images_NHWC[at] = augmented(square, preprocess, self._augment, rng)
        return Batch(
            images=torch.from_numpy(images_NHWC).permute(0, 3, 1, 2),
            labels=torch.from_numpy(self._labels[split][ids]),
            ids=torch.from_numpy(ids.copy()),
        )

    def _ahead(self, parts: list[Ids], make: Callable[[Ids], Batch]) -> Iterator[Batch]:
        """`make` of each part, in order, by `workers` threads that are never more than workers + 2 batches ahead."""
        if self._workers < 1:
            yield from map(make, parts)
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
        try:
            waiting: deque[Future[Batch]] = deque()
            for part in parts:
                waiting.append(pool.submit(make, part))
                if len(waiting) > self._workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def order(count: int, seed: int, epoch: int) -> Ids:
    """The numbers below `count` in the random order of that epoch."""
    return np.random.default_rng((_ORDER, seed, epoch)).permutation(count)


def spread(count: int, most: int) -> Ids:
    """At most `most` of the numbers below `count`, evenly spread, always the same."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def steps(count: int, batch_size: int) -> int:
    """Batches in an epoch of `count` images; a last one of a single image is left out where there are others."""
    alone = count % batch_size == 1 and count > 1 and batch_size > 1
    return math.ceil(count / batch_size) - alone
