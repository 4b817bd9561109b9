"""A network, real tensors as batches, and one call of the loop: small enough to train in milliseconds.

Run as a program (`python toy.py FOLDER WRITE_EVERY_STEP`) it trains there and says each step, for tests that kill it.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from houndsight.data.loader import Batch, spread
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, SplitName
from houndsight.training.loop import Fitted, fit

CLASSES, WIDTH = 4, 16


class Tensors:
    """Features in memory with the order of each epoch drawn from (seed, epoch), as the real batches have it."""

    def __init__(self, splits: dict[SplitName, tuple[Tensor, Tensor]], batch_size: int = 8, seed: int = 0) -> None:
        self.splits, self.batch_size, self.seed = splits, batch_size, seed
        self.steps_per_epoch = -(-len(splits["train"][0]) // batch_size)

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(1000 * self.seed + epoch)
        order = torch.randperm(len(self.splits["train"][0]), generator=generator)
        for ids in torch.split(order, self.batch_size)[start:]:
            yield self._batch("train", ids)

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        for ids in torch.split(torch.arange(len(self.splits[split][0])), self.batch_size):
            yield self._batch(split, ids)

    def pick(self, split: SplitName, most: int) -> Batch:
        return self._batch(split, torch.from_numpy(spread(len(self.splits[split][0]), most)))

    def _batch(self, split: SplitName, ids: Tensor) -> Batch:
        images, labels = self.splits[split]
        return Batch(images[ids], labels[ids], ids)


def blobs(count: int = 80, spread: float = 0.5, seed: int = 1, labels_seed: int | None = None) -> tuple[Tensor, Tensor]:
    """`count` points around one centre a class; the centres are always the same."""
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    return centres[labels] + spread * torch.randn(count, WIDTH, generator=generator), labels


def separable(**options: Any) -> Tensors:
    return Tensors({"train": blobs(seed=1), "valid": blobs(seed=2), "test": blobs(seed=3)}, **options)


def network(seed: int = 0, dropout: float = 0.3) -> nn.Sequential:
    """Everything a checkpoint has to keep: weights, batch statistics and dropout's random numbers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(WIDTH, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, CLASSES)
    )


def spec(**settings: Any) -> ClassifierSpec:
    given: dict[str, Any] = {
        "data": "toy",
        "device": "cpu",
        "threads": 1,
        "lr": 0.01,
        "weight_decay": 0.01,
        "epochs": 3,
        "batch_size": 8,
    } | settings
    if settings.get("steps"):
        del given["epochs"]
    return ClassifierSpec.create(**given)


def run(
    folder: Path,
    net: nn.Module,
    batches: Any,
    settings: ClassifierSpec,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Fitted:
    with RecordWriter(folder / "records") as records:
        return fit(
            net, batches, settings, checkpoints=folder / "checkpoints", records=records, stop=stop, progress=progress
        )


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def main() -> None:
    folder, every = Path(sys.argv[1]), float(sys.argv[2])
    net = network()

    def progress(stage: str, done: int, total: int) -> None:
        print(done, flush=True)
        if every == 0:  # the parent decides how far this goes: one line from it, one step
            sys.stdin.readline()

    run(folder, net, separable(), spec(epochs=4, checkpoint_seconds=every), progress=progress)
    torch.save(weights(net), folder / "final.pt")


if __name__ == "__main__":
    main()
