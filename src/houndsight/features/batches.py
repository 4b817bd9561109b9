"""Batches of cached features, in the very order in which the images themselves would come; read by the loop."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from houndsight.data.loader import Batch, order, spread, steps
from houndsight.spec import Index, SplitName

EVALUATED = 4096  # rows a batch when nothing is trained
EVALUATED_BYTES = 64 << 20  # the same for feature maps, which are larger


class FeatureBatches:
    """Batches of float32 features (B, ...); fits `data.loader.Batches`.

    `train` holds one array or several views of it, (K, n, ...): epoch e reads view e mod K.
    """

    def __init__(
        self,
        index: Index,
        features: Mapping[SplitName, NDArray[np.float32]],
        *,
        batch_size: int,
        seed: int,
        views: NDArray[np.float32] | None = None,
    ) -> None:
        self._features = features
        self._views = features["train"][None] if views is None else views
        self._labels = {name: np.array(split.labels, dtype=np.int64) for name, split in index.splits.items()}
        self._batch_size, self._seed = batch_size, seed
        self.steps_per_epoch = steps(len(index.splits["train"]), batch_size)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch` from its `start`-th on."""
        rows = self._views[epoch % len(self._views)]
        ids = order(len(self._labels["train"]), self._seed, epoch)
        for step in range(start, self.steps_per_epoch):
            part = ids[step * self._batch_size :][: self._batch_size]
            yield _batch(rows, self._labels["train"], part)

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        """Every image's features once, in the order of the split's columns."""
        rows, count = self._features[split], len(self._labels[split])
        size = max(1, min(EVALUATED, EVALUATED_BYTES // max(1, rows[:1].nbytes)))
        for at in range(0, count, size):
            yield _batch(rows, self._labels[split], np.arange(at, min(at + size, count)))

    def pick(self, split: SplitName, most: int) -> Batch:
        """The features of at most so many images, evenly spread over the split's columns."""
        return _batch(self._features[split], self._labels[split], spread(len(self._labels[split]), most))


def _batch(rows: NDArray[np.float32], labels: NDArray[np.int64], ids: NDArray[np.int64]) -> Batch:
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(rows[ids])),
        labels=torch.from_numpy(labels[ids]),
        ids=torch.from_numpy(ids.copy()),
    )
