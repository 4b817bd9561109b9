"""A training loop as people write it, with a place for each plant; its arithmetic is a wait, as that for a GPU is.

A wait takes as long on a busy machine as on an idle one, so that what a plant costs can be told exactly.
"""

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

from houndsight.records.profiling import run as runs
from houndsight.records.profiling.run import Run
from houndsight.results import Verdict
from houndsight.watch.own import Profile

WORK = 0.02


def nothing() -> None:
    """No plant."""


class Images(Dataset[tuple[Tensor, int]]):
    def __init__(self, count: int, each: Callable[[], None]) -> None:
        self.count, self.each = count, each

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        self.each()
        return torch.full((3, 8, 8), float(at % 7)), at % 10


class Waiting(nn.Module):
    """A linear model whose forward pass takes `WORK` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 10)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        time.sleep(WORK)
        logits: Tensor = self.head(images_NCHW.flatten(1))
        return logits


def train(
    steps: int,
    *,
    batch: int = 20,
    workers: int = 0,
    each_image: Callable[[], None] = nothing,
    between: Callable[[nn.Module], object] = lambda model: None,
    model: nn.Module | None = None,
) -> None:
    model = model or Waiting()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_of = nn.CrossEntropyLoss()
    for images, labels in DataLoader(Images(steps * batch, each_image), batch_size=batch, num_workers=workers):
        loss = loss_of(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        between(model)


def profiled(folder: Path, work: Callable[[], None]) -> tuple[Verdict, Run]:
    """What the profile says of `work`, and its records; a neighbour of the tests themselves is passed over."""
    profile = Profile(folder, interval=0.1, window_after=None)
    with profile:
        work()
    assert profile.verdict is not None
    return own(profile.verdict), runs.read(folder)


def own(verdict: Verdict) -> Verdict:
    """The first cause that is not what else runs on the machine of the tests."""
    causes = [verdict, *verdict.alternatives]
    left = [each for each in causes if each.cause != "neighbour"]
    healthy = verdict.model_copy(update={"cause": "compute", "bound": "compute", "gain": 1.0, "alternatives": ()})
    return left[0] if left else healthy


class Plant:
    """Something slow, and how long it really took: what a loop would win without it needs no second run to tell.

    Two runs of which one has the plant differ by what else the machine did meanwhile; this does not.
    """

    def __init__(self, slow: Callable[..., object]) -> None:
        self.slow, self.calls, self.spent = slow, 0, 0.0

    def __call__(self, *args: object) -> None:
        began = time.perf_counter()
        self.slow(*args)
        self.spent += time.perf_counter() - began
        self.calls += 1

    def won(self, run: Run) -> float:
        """How many times as fast the run would have been without it."""
        total = float(run.timeline.parts.sum())
        return total / (total - self.spent)


def pace(run: Run) -> float:
    """Seconds a step of the settled loop, without the time in which it was ready and had to wait for a core."""
    waited = run.mean(run.machine.waited) or 0.0
    return (1 - waited) * float(run.loop.parts.sum()) / run.loop.steps


def crowded(*measured: Run) -> bool:
    """Whether so much else ran beside these, other tests among it, that they cannot be compared."""
    others = [run.mean(run.machine.others) for run in measured]
    return os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1) or any(each is None or each > 0.2 for each in others)


def burn(seconds: float) -> None:
    """Compute for so much CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def slow_in_worker(number: int, seconds: float) -> None:
    """Wait in one data worker."""
    info = get_worker_info()
    if info is not None and info.id == number:
        time.sleep(seconds)


class Leak:
    """Keeps 5 MB more at every call, in pages of its own."""

    SIZE = 5_000_000

    def __init__(self) -> None:
        self.kept: list[mmap.mmap] = []

    def __call__(self, _: nn.Module) -> None:
        self.kept.append(mmap.mmap(-1, self.SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self.kept[-1].write(b"x" * self.SIZE)


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    """Other processes on the same core; no children of this one, for those are the training's own work."""
    start = (
        "import subprocess, sys\n"
        "silent = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}\n"
        "print(subprocess.Popen([sys.executable, '-c', 'while True: pass'], **silent).pid)"
    )
    started = [subprocess.run([sys.executable, "-c", start], check=True, stdout=subprocess.PIPE) for _ in range(count)]
    running = [psutil.Process(int(each.stdout)) for each in started]
    try:
        yield
    finally:
        for each in running:
            each.kill()
