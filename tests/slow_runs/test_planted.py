"""Each planted slowness is the first verdict, its gain within 30 % of what removing it wins; twins are not accused.

For tiny batches and busy neighbours the estimate leaves out caches, and is held to promising no more than is won.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from houndsight.records.profiling import run as runs
from houndsight.records.profiling.run import Run
from houndsight.watch.own import Profile

from .loops import WORK, Leak, Plant, burn, busy_neighbours, crowded, pace, profiled, slow_in_worker, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _all_cores() -> Iterator[None]:
    """Whatever other tests left: a loop with fewer threads than cores has idle cores, and is told so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


def near(gain: float, won: float) -> bool:
    return abs(gain / won - 1) <= 0.3


def saved(place: Path) -> Callable[[nn.Module], None]:
    def save(_: nn.Module) -> None:
        torch.save(weights, place / "model.pt")

    weights = torch.zeros(20_000_000)
    return save


def evaluated(model: nn.Module) -> None:
    model.eval()
    with torch.no_grad():
        for _ in range(4):
            model(torch.zeros(20, 3, 8, 8))
    model.train()


def copied() -> Callable[[nn.Module], object]:
    huge, place = torch.ones(80_000_000), torch.zeros(80_000_000)
    return lambda _: place.copy_(huge)


CAUSES: dict[str, tuple[str, str, str, Callable[[Path], Callable[..., object]]]] = {
    "a loader that sleeps": ("data", "data_wait", "each_image", lambda place: lambda: time.sleep(0.004)),
    "heavy decoding without workers": ("data", "data_wait", "each_image", lambda place: lambda: burn(0.004)),
    "a huge tensor copied in every step": ("copy", "copy", "between", lambda _: copied()),
    "work between the steps": ("host", "between_steps", "between", lambda place: lambda model: burn(0.06)),
    "a checkpoint in every step": ("host", "checkpoint", "between", saved),
    "an evaluation in every step": ("compute", "evaluation", "between", lambda place: evaluated),
}


@pytest.mark.parametrize("name", CAUSES)
def test_a_planted_slowness_is_the_first_verdict(name: str, tmp_path: Path) -> None:
    bound, cause, place, make = CAUSES[name]
    plant = Plant(make(tmp_path))
    verdict, run = profiled(tmp_path / "records", lambda: train(25, **{place: plant}))  # type: ignore[arg-type]
    assert (verdict.bound, verdict.cause) == (bound, cause)
    assert plant.calls >= 25
    assert near(verdict.gain, plant.won(run)), f"{verdict.gain:.2f} against {plant.won(run):.2f}"


def test_the_healthy_twin_is_not_accused_and_all_time_is_told(tmp_path: Path) -> None:
    verdict, run = profiled(tmp_path, lambda: train(60))
    assert (verdict.bound, verdict.cause, verdict.gain) == ("compute", "compute", 1.0)
    assert run.timeline.steps == 60
    began, ended = run.timeline.loop_began, run.timeline.loop_ended
    assert sum(run.timeline.totals().values()) == pytest.approx(ended - began, rel=1e-3)


def test_more_workers_win_what_was_estimated(tmp_path: Path) -> None:
    def slow() -> None:
        time.sleep(0.004)

    verdict, before = profiled(tmp_path / "before", lambda: train(25, each_image=slow))
    assert verdict.change.startswith("num_workers 0 -> ")
    workers = int(verdict.change.split("->")[1].split(":")[0])
    assert verdict.expected is not None
    if not crowded(before):
        assert 3 <= workers <= 6  # 80 ms of waiting against 20 of work
        _, after = profiled(tmp_path / "after", lambda: train(150, workers=workers, each_image=slow))
        assert crowded(after) or near(verdict.expected, pace(before) / pace(after))


def test_one_slow_worker(tmp_path: Path) -> None:
    def in_second() -> None:
        slow_in_worker(1, 0.01)

    verdict, run = profiled(tmp_path / "slow", lambda: train(60, workers=3, each_image=in_second))
    assert verdict.bound == "data"
    healthy, twin = profiled(tmp_path / "even", lambda: train(60, workers=3))
    assert healthy.cause != "slow_worker"
    if not crowded(run, twin):
        assert verdict.cause == "slow_worker"
        assert "Data worker 1" in verdict.message
        assert healthy.cause == "compute"
        assert near(verdict.gain, pace(run) / pace(twin))


def test_a_leak_of_5_mb_a_step(tmp_path: Path) -> None:
    leak = Leak()
    verdict, _ = profiled(tmp_path, lambda: train(120, between=leak))
    assert (verdict.bound, verdict.cause, verdict.gain) == ("memory", "memory_growth", 1.0)
    assert verdict.evidence["bytes_per_step"] == pytest.approx(Leak.SIZE, rel=0.3)


def deep() -> nn.Module:
    """Many small layers: what a step costs hardly depends on its batch."""
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(40):
        layers += [nn.Linear(192, 192), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(192, 10))


def test_a_tiny_batch(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = deep()
        train(50, batch=1, model=model)  # the first steps of a process are dearer
        verdict, tiny = profiled(tmp_path / "tiny", lambda: train(250, batch=1, model=model))
        assert (verdict.bound, verdict.cause) == ("host", "tiny_batch")
        size = verdict.settings["batch_size"]
        fair, large = profiled(tmp_path / "large", lambda: train(120, batch=size, model=model))
    finally:
        torch.set_num_threads(threads)
    assert fair.cause != "tiny_batch"

    def cost(run: Run) -> float:  # CPU time: a step of milliseconds is at the mercy of whatever else runs
        seconds = sum(run.facts.thread_cpu[part] for part in ("data", "forward", "backward", "optimizer", "rest"))
        return seconds / (run.timeline.steps * (run.facts.batch_size or 1))

    # A step's CPU time swings twofold from run to run, by what is left in the caches: no more is promised than is won.
    assert 2 < verdict.gain < 1.3 * cost(tiny) / cost(large), (
        f"{verdict.gain:.1f} against {cost(tiny) / cost(large):.1f}"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold processes on one core")
def test_a_busy_neighbour(tmp_path: Path) -> None:
    profile = Profile(tmp_path, interval=0.1, window_after=None)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with busy_neighbours(2), profile:
            train(40, between=lambda model: burn(0.06))
    finally:
        os.sched_setaffinity(0, before)
    assert profile.verdict is not None
    found = {each.cause: each for each in (profile.verdict, *profile.verdict.alternatives)}
    assert found["neighbour"].bound == "host"
    run = runs.read(tmp_path)
    alone = WORK + 0.06  # what a step takes on a core of its own, and some microseconds
    won = float(run.loop.parts.sum()) / run.loop.steps / alone
    # What neighbours do to caches and to the rhythm of sleeping and waking is not in the estimate: it promises less.
    assert 1.5 < found["neighbour"].gain < 1.3 * won, f"{found['neighbour'].gain:.2f} against {won:.2f}"
