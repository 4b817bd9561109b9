"""What the debugger costs a training: steps in pairs, with it and without, and its own CPU time.

Run it with `python -m benchmarks.debugger [--json] [--large] [--smdebug PYTHON]`. The model is ResNet-18 with SGD and
momentum on batches of 32 random images, 64 pixels wide, with `--large` also 224. Pairs are a step without and a step
with a watcher, who goes first alternates; figures are CPU time of the process, which
computes with one thread. Pairs carry some points of noise on a shared machine, as the A/A control shows; the debugger's
own time is counted exactly, and is what its budget is kept by. Beside it, in the same loop: 64-bin histograms of every
weight and gradient, as wandb.watch takes them, and the hook of smdebug 1.0.34 run by another interpreter, given with
`--smdebug`, that has it (with torch, torchvision, numpy 2.2, requests, pandas and protobuf 3.20).
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from houndsight.records.rules.engine import Engine
from houndsight.records.tensors import STATISTICS, TensorWriter, file_of
from houndsight.watch.debugger import Debugger
from houndsight.watch.plan import DebugSpec, Schedule

PAIRS = 12
STEPS = 100  # of the run with the governor


class Training:
    """One model, its optimizer, and the very same batch over and over."""

    def __init__(self, side: int) -> None:
        torch.manual_seed(0)
        self.network = torchvision.models.resnet18(num_classes=70)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9)
        self.images, self.labels = torch.randn(32, 3, side, side), torch.arange(32) % 70

    def step(self) -> float:
        """CPU milliseconds of one step, side threads included."""
        began = time.process_time()
        self.optimizer.zero_grad()
        loss: Tensor = functional.cross_entropy(self.network(self.images), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return 1000 * (time.process_time() - began)

    def pairs(self, on: Callable[[], None], off: Callable[[], None]) -> dict[str, float]:
        """The ratio of a step with to one without, and the difference in milliseconds."""
        ratios, extra = [], []
        for number in range(PAIRS):
            took = {}
            for watched in (number % 2 == 0, number % 2 == 1):
                (on if watched else off)()
                took[watched] = self.step()
            ratios.append(100 * (took[True] / took[False] - 1))
            extra.append(took[True] - took[False])
        low, _, high = quantiles(ratios, n=4)
        return {"percent": median(ratios), "low": low, "high": high, "extra_ms": median(extra)}


def histograms(network: nn.Module) -> Callable[[torch.optim.Optimizer, Any, Any], None]:
    """What wandb.watch does with every gradient and parameter."""

    def hook(*_: Any) -> None:
        for each in network.parameters():
            for tensor in (each.detach(), each.grad):
                if tensor is not None:
                    torch.histc(tensor, bins=64).tolist()

    return hook


def every_step(training: Training, folder: Path) -> dict[str, float]:
    """All statistics of all gradients, weights, updates and activations at every step, toggled."""
    debugger = Debugger(folder, DebugSpec(schedule=Schedule(interval=1)), strict=True, rules=rules)
    debugger.attach([training.network], [training.optimizer])
    kept: list[float] = []

    def on() -> None:
        debugger.level = 2
        debugger.activations.arm(2)

    def off() -> None:
        debugger.level = 0
        debugger.activations.arm(0)
        debugger.activations.clear()

    for _ in range(2):
        training.step()
    before = debugger.governor.own
    found = training.pairs(on, off)
    kept.append(debugger.governor.own - before)
    debugger.close()
    return found | {"own_ms": 1000 * kept[0] / PAIRS}


def rules(facts: dict[str, Any]) -> Engine:
    return Engine(facts, statistics=STATISTICS)


def governed(training: Training, folder: Path) -> dict[str, float]:
    """The default: an interval that keeps within one per cent."""
    debugger = Debugger(folder, strict=True, rules=rules)
    debugger.attach([training.network], [training.optimizer])
    for _ in range(STEPS):
        training.step()
    debugger.close()
    governor = debugger.governor
    first = {"steps": float(governor.steps), "saved": float(governor.saved), "interval": float(governor.interval)}
    return first | {"own_percent": 100 * governor.overhead, "step_ms": 1000 * governor.step_seconds}


def storage() -> dict[str, float]:
    """A saved step of 62 weights and 62 gradients with six statistics each."""
    names = [f"{kind}/layer{number}" for kind in ("weight", "gradient") for number in range(62)]
    values = torch.full((124, len(STATISTICS)), float("nan"))
    values[:, :6] = 1.0
    table = values.numpy()
    with tempfile.TemporaryDirectory() as folder:
        writer = TensorWriter(Path(folder))
        began = time.thread_time()
        for step in range(1000):
            writer.add(step, "train", names, table)
            writer.flush()
        took = time.thread_time() - began
        writer.close()
        return {"ms_a_step": took, "kib_a_step": file_of(Path(folder)).stat().st_size / 1000 / 1024}


SMDEBUG = """
import json, sys, tempfile, time
import numpy as np
if not hasattr(np.ndarray, "tostring"):
    raise SystemExit("this interpreter has a numpy that smdebug cannot run with")
import torch, torchvision
from statistics import median, quantiles
from smdebug.pytorch import Hook, SaveConfig
torch.set_num_threads(1)
def training():
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=70)
    return network, torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
images, labels, loss_of = torch.randn(32, 3, 64, 64), torch.arange(32) % 70, torch.nn.CrossEntropyLoss()
def step(network, optimizer):
    began = time.process_time()
    optimizer.zero_grad()
    loss_of(network(images), labels).backward()
    optimizer.step()
    return 1000 * (time.process_time() - began)
bare, watched = training(), training()
hook = Hook(out_dir=tempfile.mkdtemp() + "/out", save_config=SaveConfig(save_interval=1),
            include_collections=["weights", "biases", "gradients"])
hook.register_module(watched[0])
step(*bare); step(*watched)
ratios, extra = [], []
for number in range(PAIRS):
    took = {}
    for each in ((bare, watched) if number % 2 else (watched, bare)):
        took[each is watched] = step(*each)
    ratios.append(100 * (took[True] / took[False] - 1)); extra.append(took[True] - took[False])
low, _, high = quantiles(ratios, n=4)
print(json.dumps({"percent": median(ratios), "low": low, "high": high, "extra_ms": median(extra)}))
"""


def smdebug(python: str) -> dict[str, float]:
    """The hook of smdebug on another model object of the same kind: it cannot be toggled."""
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SMDEBUG.replace("PAIRS", str(PAIRS))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(side: int, other: str | None) -> dict[str, dict[str, float]]:
    training = Training(side)
    training.step()
    rows = {"A/A control": training.pairs(lambda: None, lambda: None)}
    with tempfile.TemporaryDirectory() as folder:
        rows["default"] = governed(training, Path(folder) / "default")
        rows["every step, all statistics"] = every_step(training, Path(folder) / "every")
    handles: list[Any] = []

    def on() -> None:
        handles.append(training.optimizer.register_step_pre_hook(histograms(training.network)))

    def off() -> None:
        while handles:
            handles.pop().remove()

    def once() -> None:
        off()
        on()

    rows["histograms of 64 bins, every step"] = training.pairs(once, off)
    off()
    if other and side == 64:
        rows["smdebug 1.0.34, every step"] = smdebug(other)
    return rows


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    other = arguments[arguments.index("--smdebug") + 1] if "--smdebug" in arguments else None
    sides = (64, 224) if "--large" in arguments else (64,)
    found: dict[str, Any] = {f"ResNet-18, {side} px, batch 32": measure(side, other) for side in sides}
    found["storage"] = storage()
    if "--json" in arguments:
        json.dump({"benchmark": "debugger", "pairs": PAIRS, **found}, sys.stdout, indent=1)
        print()
        return
    for name, rows in found.items():
        print(name)
        if name == "storage":
            print(f"  a saved step: {rows['ms_a_step']:.3f} ms of CPU, {rows['kib_a_step']:.2f} KiB")
            continue
        for row, values in rows.items():
            print(f"  {row:36}" + "   ".join(f"{key} {value:.2f}" for key, value in values.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
