"""One moment of a training as plain numbers: what the debugger hands to the rules, and what the records give back.

Tensors are named as in records/tensors.py; further ones that rules look for where they are given: `logits` (what the
loss was given, where that is not `outputs`), `buffer/<buffer>` (running means and variances), `distance/<parameter>`
(weights minus the first weights).

Scalars: loss, accuracy, lr, loss_scale; `plain_loss` (mean cross-entropy in nats of what the loss was given, whatever
the loss is), `distinct_labels` (classes in the batch), `batch` (images in it), `training` (share of the batch-norm and
dropout layers that are in training mode in this forward pass), `gradient_square_small`, `gradient_square_large`,
`batch_small`, `batch_large` (squared norms of the gradient of a part of a batch and of all of it); any metric of the
user's own.

Modes: those of records/tensors.py, and `probe` (a fixed part of the training images, in eval mode).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Samples:
    """Images one by one, of a batch or of an epoch, as columns of equal length."""

    ids: NDArray[np.int64]
    """(n,) position in the split."""
    losses: NDArray[np.float32]
    """(n,) plain cross-entropy in nats."""
    predictions: NDArray[np.int64]
    """(n,) position of the class with the highest output."""
    labels: NDArray[np.int64] | None = None
    """(n,) position of the class."""
    keys: NDArray[np.float64] | None = None
    """(n,) a number that only equal images share, such as the mean over the input's values."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known of one step in one mode; each part may be missing, and parts may come one after the other."""

    step: int
    """Training step, from 0; of a validation the last training step before it."""
    mode: str = "train"
    """Which part of the run."""
    time: float = 0.0
    """When, seconds since the epoch; 0 where it is not known."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Name -> number."""
    names: tuple[str, ...] = ()
    """Names of the tensors, T of them; the same tuple object at every step is the fastest."""
    values: NDArray[np.float32] | None = None
    """(T, S) statistics of the tensors; columns as the engine was told, NaN where one was not taken."""
    samples: Samples | None = None
    """Its images one by one; at the end of an epoch, those of the epoch."""
    confusion: NDArray[np.int64] | None = None
    """(C, C) counts, row = class, column = prediction; summed over an epoch or a validation."""

    def joined(self, other: "Moment") -> "Moment":
        """Both parts of one step and mode as one; what the other has counts where both have it."""
        names, values = self.names, self.values
        if other.values is not None:
            if values is None:
                names, values = other.names, other.values
            else:
                names, values = names + other.names, np.concatenate([values, other.values])
        return replace(
            self,
            time=other.time or self.time,
            scalars={**self.scalars, **other.scalars},
            names=names,
            values=values,
            samples=_stacked(self.samples, other.samples),
            confusion=self.confusion if other.confusion is None else other.confusion,
        )


def _stacked(first: Samples | None, second: Samples | None) -> Samples | None:
    if first is None or second is None:
        return first or second
    labels = keys = None
    if first.labels is not None and second.labels is not None:
        labels = np.concatenate([first.labels, second.labels])
    if first.keys is not None and second.keys is not None:
        keys = np.concatenate([first.keys, second.keys])
    return Samples(
        np.concatenate([first.ids, second.ids]),
        np.concatenate([first.losses, second.losses]),
        np.concatenate([first.predictions, second.predictions]),
        labels,
        keys,
    )
