"""What the profiler costs a loop: CPU time of steps with the hooks and without, in alternating pairs; and the sampler.

Run it with `python -m benchmarks.profiler [--json]`. The same model and optimizer run both sides, the hooks attached
for one step and detached for the next, so that nothing but the hooks differs; steps of 300 ms (ResNet-18, 64 pixels,
batch 32) and of a few milliseconds (a small convolutional net), where a hook weighs most. `none` repeats the bare
step on both sides: what it shows is the noise. The built-in loop records its spans anyway; to it the profiler adds
only the sampler, a process of its own, whose CPU time is told per sample and as a share of one core.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import torch
from torch import nn

from houndsight.records import machine
from houndsight.records.writer import RecordWriter
from houndsight.watch.clock import LoopClock
from houndsight.watch.hooks import Hooks
from houndsight.watch.sampler import Sampler
from houndsight.watch.seen import Seen


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as build

    network: nn.Module = build(num_classes=10)
    return network


def step_of(network: nn.Module, batch: int, side: int) -> Callable[[], None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9)
    loss_of = nn.CrossEntropyLoss()
    images, labels = torch.randn(batch, 3, side, side), torch.randint(0, 10, (batch,))

    def step() -> None:
        loss = loss_of(network(images), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def seconds(step: Callable[[], None], repeats: int) -> float:
    began = time.thread_time()
    for _ in range(repeats):
        step()
    return (time.thread_time() - began) / repeats


def overhead(step: Callable[[], None], hooks: Hooks | None, pairs: int, repeats: int) -> dict[str, float]:
    """Median over pairs, with quartiles, of what the hooks add, in per cent of the bare step."""
    found, bare = [], []
    for pair in range(pairs):
        times = {}
        for watched in (True, False) if pair % 2 else (False, True):
            if watched and hooks is not None:
                hooks.attach()
            times[watched] = seconds(step, repeats)
            if watched and hooks is not None:
                hooks.detach()
        found.append(100 * (times[True] / times[False] - 1))
        bare.append(times[False])
    low, _, high = quantiles(found, n=4)
    return {"percent": median(found), "q25": low, "q75": high, "step_ms": 1e3 * median(bare)}


def loops() -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    result = {}
    with tempfile.TemporaryDirectory() as folder, RecordWriter(Path(folder)) as records:
        hooks = Hooks(LoopClock(records), Seen(), on_step=lambda: None, waits=False)
        for name, network, batch, side, pairs, repeats in (
            ("small", small(), 8, 32, 61, 20),
            ("resnet18", resnet18(), 32, 64, 21, 1),
        ):
            step = step_of(network, batch, side)
            seconds(step, 3)
            result[f"{name}, none"] = overhead(step, None, pairs, repeats)
            result[f"{name}, hooks"] = overhead(step, hooks, pairs, repeats)
    return result


def sampling() -> dict[str, float]:
    found = {}
    for interval in (0.1, 0.5):
        with tempfile.TemporaryDirectory() as folder:
            sampler = Sampler(Path(folder), interval)
            time.sleep(40 * interval)
            sampler.stop()
            lines = [json.loads(line) for line in (Path(folder) / machine.MACHINE).read_text().splitlines()[1:]]
        spent, took = lines[-1]["own"] - lines[0]["own"], lines[-1]["t"] - lines[0]["t"]
        found[f"{interval} s: ms a sample"] = 1e3 * spent / (len(lines) - 1)
        found[f"{interval} s: per cent of a core"] = 100 * spent / took
    return found


def main() -> None:
    """Measure and print."""
    result = {"load": os.getloadavg()[0], "loops": loops(), "sampler": sampling()}
    if "--json" in sys.argv:
        print(json.dumps(result, indent=1))
        return
    print(f"load {result['load']:.1f}")
    for name, each in loops_of(result):
        spread = f"[{each['q25']:+.2f}, {each['q75']:+.2f}]"
        print(f"{name:<18}{each['percent']:+6.2f} % {spread} of {each['step_ms']:.2f} ms")
    for name, value in result["sampler"].items():  # type: ignore[attr-defined]  # a document of mixed values
        print(f"sampler every {name:<26}{value:.3f}")


def loops_of(result: dict[str, object]) -> list[tuple[str, dict[str, float]]]:
    """The measured loops."""
    found = result["loops"]
    assert isinstance(found, dict)
    return list(found.items())


if __name__ == "__main__":
    main()
