"""What the training loop costs over bare torch on ready tensors: CPU time of one thread, same model, same optimizer.

Run it with `python -m benchmarks.loop [--json]`. The bare loop does forward, loss, backward, step and zero_grad and
looks at nothing; ours also refuses losses that are not finite, schedules, counts, records every loss and learning
rate, times each part of a step, and asks after every step whether to stop. Both are measured from their 50th step to
the last, in many short alternating runs, so that what else the machine does meets both alike.
"""

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from houndsight.data.loader import Batch
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, SplitName
from houndsight.training.loop import fit
from houndsight.training.optim import build_optimizer

REPEATS = 31
WARM = 50


class Ready:
    """One batch over and over: no time goes into making it."""

    def __init__(self, images: Tensor, labels: Tensor, steps: int) -> None:
        self.steps_per_epoch = steps
        self.batch = Batch(images, labels, torch.arange(len(labels)))

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for _ in range(start, self.steps_per_epoch):
            yield self.batch

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        yield self.batch


def linear() -> nn.Module:
    return nn.Linear(1280, 70)


def convnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 70),
    )


def bare(network: nn.Module, batches: Ready, spec: ClassifierSpec) -> float:
    """CPU milliseconds a step."""
    network.to(memory_format=torch.channels_last)
    network.train()
    optimizer = build_optimizer(network, spec)
    stamps = {}
    for step, batch in enumerate(batches.train(0), start=1):
        loss = functional.cross_entropy(network(batch.images), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step in (WARM, batches.steps_per_epoch):
            stamps[step] = time.process_time()
    return per_step(stamps)


def ours(network: nn.Module, batches: Ready, spec: ClassifierSpec) -> float:
    """CPU milliseconds a step, the thread that writes the records included."""
    stamps = {}

    def progress(stage: str, done: int, total: int) -> None:
        if done in (WARM, total):
            stamps[done] = time.process_time()

    with tempfile.TemporaryDirectory() as folder, RecordWriter(Path(folder) / "records") as records:
        fit(
            network,
            batches,
            spec,
            checkpoints=Path(folder) / "checkpoints",
            records=records,
            stop=lambda: False,
            progress=progress,
        )
    return per_step(stamps)


def per_step(stamps: dict[int, float]) -> float:
    first, last = min(stamps), max(stamps)
    return 1000 * (stamps[last] - stamps[first]) / (last - first)


def compare(name: str, make: Callable[[], nn.Module], images: Tensor, steps: int) -> dict[str, float | str | int]:
    """Medians of alternating runs; the ratio is the median of the ratios of neighbours."""
    spec = ClassifierSpec(data="ready", epochs=1, device="cpu", precision="float32", threads=1)
    batches = Ready(images, torch.arange(len(images)) % 70, steps)
    pairs = []
    for repeat in range(REPEATS + 1):  # the first pair warms up; who goes first alternates
        gc.collect()
        theirs = bare(make(), batches, spec) if repeat % 2 else 0.0
        mine = ours(make(), batches, spec)
        pairs.append((theirs or bare(make(), batches, spec), mine))
    pairs = pairs[1:]
    ratios = sorted(mine / theirs for theirs, mine in pairs)
    return {
        "model": name,
        "steps": steps,
        "bare_ms": median(theirs for theirs, _ in pairs),
        "ours_ms": median(mine for _, mine in pairs),
        "ratio": median(ratios),
        "ratio_low": ratios[len(ratios) // 10],
        "ratio_high": ratios[-1 - len(ratios) // 10],
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(32, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    rows = [
        compare("linear 1280 -> 70, batch 32", linear, torch.randn(32, 1280), 450),
        compare("linear 1280 -> 70, batch 256", linear, torch.randn(256, 1280), 250),
        compare("two convolutions, 64 px, batch 32", convnet, images, 100),
    ]
    if "--json" in sys.argv[1:]:
        json.dump({"benchmark": "loop", "repeats": REPEATS, "rows": rows}, sys.stdout, indent=1)
        print()
        return
    print(
        f"{'model':36} {'bare ms':>8} {'ours ms':>8} {'ratio':>7}   of {REPEATS} pairs; tenth to ninetieth percentile"
    )
    for row in rows:
        print(
            f"{row['model']:36} {row['bare_ms']:8.3f} {row['ours_ms']:8.3f} {row['ratio']:7.3f}"
            f"   {row['ratio_low']:.3f} to {row['ratio_high']:.3f}"
        )


if __name__ == "__main__":
    main()
