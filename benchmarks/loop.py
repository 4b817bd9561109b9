"""What the training loop costs over bare torch on ready tensors: CPU time of one thread, medians of alternating runs.

Run it with `python -m benchmarks.loop [--json]`. The bare loop does forward, loss, backward, step and zero_grad and
looks at nothing; ours also refuses losses that are not finite, schedules, counts hits, records every loss and learning
rate, times each part of a step, and asks after every step whether to stop. It is held against two bare loops: with
`torch.optim.AdamW(network.parameters())` as people write it, and with the very optimizer that ours builds (fused).
Each is measured from its 20th step to its last, who goes first alternates, and all run with the memory settings that
jobs run with: without them page faults of the tensors drown the differences.
"""

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional

from houndsight.backends.local import FAST
from houndsight.data.loader import Batch
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, SplitName
from houndsight.training.loop import fit
from houndsight.training.optim import build_optimizer

REPEATS = 31
WARM = 20


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

    def pick(self, split: SplitName, most: int) -> Batch:
        return self.batch


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


def bare(network: nn.Module, batches: Ready, spec: ClassifierSpec, *, fused: bool) -> float:
    """CPU milliseconds a step."""
    network.to(memory_format=torch.channels_last)
    network.train()
    optimizer = build_optimizer(network, spec) if fused else torch.optim.AdamW(network.parameters(), lr=1e-3)
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
    """The ratios are medians of the ratios of neighbouring runs, with their tenth and ninetieth percentile."""
    spec = ClassifierSpec(
        data="ready", lr=1e-3, weight_decay=0.01, epochs=1, device="cpu", precision="float32", threads=1
    )
    batches = Ready(images, torch.arange(len(images)) % 70, steps)
    runs: dict[str, Callable[[], float]] = {
        "plain": lambda: bare(make(), batches, spec, fused=False),
        "fused": lambda: bare(make(), batches, spec, fused=True),
        "ours": lambda: ours(make(), batches, spec),
    }
    took: dict[str, list[float]] = {each: [] for each in runs}
    for repeat in range(REPEATS + 1):
        gc.collect()
        for each in list(runs)[:: 1 if repeat % 2 else -1]:
            milliseconds = runs[each]()
            if repeat:  # the first round warms up
                took[each].append(milliseconds)
    row: dict[str, float | str | int] = {"model": name, "steps": steps}
    row |= {f"{each}_ms": median(values) for each, values in took.items()}
    for each in ("plain", "fused"):
        ratios = sorted(mine / theirs for mine, theirs in zip(took["ours"], took[each], strict=True))
        row[f"ratio_{each}"] = median(ratios)
        row[f"ratio_{each}_low"], row[f"ratio_{each}_high"] = ratios[REPEATS // 10], ratios[-1 - REPEATS // 10]
    return row


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(32, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    rows = [
        compare("linear 1280 -> 70, batch 32", linear, torch.randn(32, 1280), 200),
        compare("linear 1280 -> 70, batch 256", linear, torch.randn(256, 1280), 100),
        compare("two convolutions, 64 px, batch 32", convnet, images, 60),
    ]
    if "--json" in sys.argv[1:]:
        json.dump({"benchmark": "loop", "repeats": REPEATS, "rows": rows}, sys.stdout, indent=1)
        print()
        return
    print(f"{'ms of CPU a step':36} {'plain':>8} {'fused':>8} {'ours':>8}   ours / plain             ours / fused")
    for row in rows:
        print(
            f"{row['model']:36} {row['plain_ms']:8.3f} {row['fused_ms']:8.3f} {row['ours_ms']:8.3f}"
            + "".join(
                f"   {row[f'ratio_{each}']:.3f} ({row[f'ratio_{each}_low']:.3f} to {row[f'ratio_{each}_high']:.3f})"
                for each in ("plain", "fused")
            )
        )


if __name__ == "__main__":
    if not FAST.items() <= os.environ.items():  # the allocator reads them when the process starts
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.loop", *sys.argv[1:]], os.environ | FAST)
    main()
