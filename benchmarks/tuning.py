"""What searches find: recorded tables of real trainings, gone through by every strategy with many seeds.

`python -m benchmarks.tuning record` trains every point of three grids on scikit-learn's digits once (numpy, 15 seconds)
and writes `surfaces/*.json`; without it the tables that are there are searched, which takes seconds a strategy.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from houndsight.backends.base import Stop
from houndsight.backends.inline import InlineBackend
from houndsight.folders import JobFolder
from houndsight.records.writer import RecordWriter
from houndsight.tuning import rungs
from houndsight.tuning import trials as trials_of
from houndsight.tuning.events import Trial
from houndsight.tuning.space import Categorical, Continuous
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.strategies import Searcher
from houndsight.tuning.tuner import Tuner
from houndsight.workspace import Workspace

HERE = Path(__file__).parent / "surfaces"
EPOCHS = 9
SEEDS = 20
TRIALS = 20
Floats = NDArray[np.float64]
LR = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]


def digits(train: int, noise: float) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Training images and labels, some of them wrong, and 500 validation images and labels."""
    from sklearn.datasets import load_digits

    found, generator = load_digits(), np.random.default_rng(0)
    order = generator.permutation(len(found.target))
    images, labels = found.data[order] / 16 - 0.5, found.target[order].copy()
    wrong = generator.random(train) < noise
    labels[:train][wrong] = generator.integers(0, 10, wrong.sum())
    return images[:train], labels[:train], images[-500:], labels[-500:]


def curve(
    data: Any, *, lr: float, batch: int, width: int = 0, decay: float = 0.0, momentum: float | None = None
) -> list[float]:
    """Validation loss after each epoch: AdamW, or SGD where a momentum is given; `width` hidden units, or none."""
    images, labels, valid, truth = data
    generator = np.random.default_rng(1)
    shapes = [(64, width), (width, 10)] if width else [(64, 10)]
    weights = [generator.normal(0, (2 / a) ** 0.5, (a, b)) for a, b in shapes]
    biases = [np.zeros(b) for _, b in shapes]
    parameters = [*weights, *biases]
    first, second, step = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters], 0
    losses = []
    total = EPOCHS * -(-len(images) // batch)
    for _ in range(EPOCHS):
        order = generator.permutation(len(images))
        for start in range(0, len(images), batch):
            rows = order[start : start + batch]
            gradients = _gradients(images[rows], labels[rows], weights, biases)
            rate = lr * 0.5 * (1 + np.cos(np.pi * step / total))
            step += 1
            for at, gradient in enumerate(gradients):
                if momentum is not None:
                    first[at] = momentum * first[at] + gradient
                    parameters[at] -= rate * first[at]
                    continue
                first[at] = 0.9 * first[at] + 0.1 * gradient
                second[at] = 0.999 * second[at] + 0.001 * gradient**2
                scaled = (first[at] / (1 - 0.9**step)) / (np.sqrt(second[at] / (1 - 0.999**step)) + 1e-8)
                parameters[at] -= rate * (scaled + decay * parameters[at])
        losses.append(_loss(valid, truth, weights, biases))
    return [round(float(min(each, 99.0)), 4) if np.isfinite(each) else 99.0 for each in losses]


def _forward(images: Floats, weights: list[Floats], biases: list[Floats]) -> tuple[Floats, Floats]:
    hidden = np.maximum(images @ weights[0] + biases[0], 0) if len(weights) > 1 else images
    logits = hidden @ weights[-1] + biases[-1]
    logits -= logits.max(axis=1, keepdims=True)
    return hidden, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _gradients(images: Floats, labels: Any, weights: list[Floats], biases: list[Floats]) -> list[Floats]:
    hidden, logs = _forward(images, weights, biases)
    out = np.exp(logs)
    out[np.arange(len(labels)), labels] -= 1
    out /= len(labels)
    last = (hidden.T @ out, out.sum(axis=0))
    if len(weights) == 1:
        return [*last]
    back = (out @ weights[1].T) * (hidden > 0)
    return [images.T @ back, last[0], back.sum(axis=0), last[1]]


def _loss(images: Floats, labels: Any, weights: list[Floats], biases: list[Floats]) -> float:
    return -float(_forward(images, weights, biases)[1][np.arange(len(labels)), labels].mean())


def grids() -> dict[str, tuple[Any, dict[str, list[Any]]]]:
    """Surface -> data and the values of each hyperparameter."""
    return {
        "linear": (digits(1000, 0.1), {"lr": LR, "decay": [0.0, 0.01, 0.1, 1.0, 10.0], "batch": [8, 32, 128, 512]}),
        "hidden": (digits(300, 0.0), {"lr": LR, "width": [4, 16, 64, 256], "batch": [8, 32, 128]}),
        "momentum": (
            digits(600, 0.2),
            {"lr": LR, "momentum": [0.0, 0.5, 0.9, 0.97], "batch": [8, 32, 128], "width": [8, 64]},
        ),
    }


def record() -> None:
    """Train every point once."""
    HERE.mkdir(exist_ok=True)
    for name, (data, values) in grids().items():
        began = time.process_time()
        with np.errstate(all="ignore"):
            table = [
                curve(data, **dict(zip(values, point, strict=True))) for point in itertools.product(*values.values())
            ]
        document = {"values": values, "epochs": EPOCHS, "loss": table}
        (HERE / f"{name}.json").write_text(json.dumps(document, separators=(",", ":")) + "\n")
        print(f"{name}: {len(table)} trainings, {time.process_time() - began:.0f} s of CPU")


class Table:
    """One recorded surface: validation losses by point and epoch."""

    def __init__(self, name: str) -> None:
        document = json.loads((HERE / f"{name}.json").read_text())
        self.values: dict[str, list[Any]] = document["values"]
        points = itertools.product(*self.values.values())
        self.losses = dict(zip(points, document["loss"], strict=True))
        self.lowest = min(each[-1] for each in self.losses.values())

    def spec(self, strategy: str, seed: int, jobs: int = TRIALS) -> TuningSpec:
        """A search over it."""
        space = {name: Categorical(choices=tuple(each)) for name, each in self.values.items()}
        job = {"kind": "script", "entry_point": "-", "source_dir": "-"}
        return TuningSpec.create(
            job=job, space=space, strategy=strategy, seed=seed, jobs=jobs, goal="minimize", objective="loss"
        )

    def loss(self, values: dict[str, Any], epoch: int = EPOCHS) -> float:
        """What a training of so many epochs came to."""
        return float(self.losses[tuple(values[name] for name in self.values)][epoch - 1])


def full(table: Table, strategy: str, seed: int) -> tuple[float, int]:
    """Best loss and epochs of a search whose trials are all trained to their end."""
    searcher, trials = Searcher(table.spec(strategy, seed), {}), list[Trial]()
    for number in range(TRIALS):
        values = searcher.propose(trials)
        assert values is not None
        trials.append(Trial(number, "", values, state="COMPLETED", value=table.loss(values)))
    return min(each.value for each in trials if each.value is not None), TRIALS * EPOCHS


def halving(table: Table, strategy: str, seed: int) -> tuple[float, int]:
    """With trials that pause at rungs and go on, one at a time, as the tuner decides it; about half of the epochs."""
    jobs = {"asha": 18, "hyperband": 16}[strategy]
    spec = table.spec(strategy, seed, jobs)
    searcher, trials = Searcher(spec, {}), list[Trial]()
    while True:
        on = rungs.promoted(spec, trials, len(trials) >= jobs)
        if on is None:
            values = searcher.propose(trials) if len(trials) < jobs else None
            if values is None:
                break
            on = Trial(len(trials), "", values, bracket=rungs.bracket_of(spec, len(trials), EPOCHS))
            trials.append(on)
        ahead = [at for at in rungs.rungs(spec, EPOCHS, on.bracket) if at > on.epochs]
        on.epochs = ahead[0] if ahead else EPOCHS
        loss = table.loss(on.hyperparameters, on.epochs)
        if ahead:
            on.state, on.rungs = "PAUSED", {**on.rungs, on.epochs: loss}
        else:
            on.state, on.value = "COMPLETED", loss
    return min(each.value for each in trials if each.value is not None), sum(each.epochs for each in trials)


def overhead(jobs: int = 40) -> float:
    """CPU seconds of the controller a trial: empty jobs in this process, less what such a job costs alone."""
    job = {"kind": "script", "entry_point": "x.py", "source_dir": "-"}
    space = {"lr": Continuous(low=1e-4, high=1e-1, scale="log"), "batch": Categorical(choices=(8, 32, 128))}
    spec = TuningSpec.create(job=job, space=space, objective="loss", pattern="x", goal="minimize", jobs=jobs, reseed=0,
                             default_first=False)  # fmt: skip
    backend = InlineBackend(_nothing)
    with TemporaryDirectory() as folder:
        place = Workspace(Path(folder))
        tuning = place.create_tuning(spec, "t")
        tuning.code.mkdir()
        began = time.process_time()
        Tuner(tuning, place, backend, lambda: False).run()
        whole = time.process_time() - began
        began = time.process_time()
        for number in range(jobs):
            backend.submit(place.create(trials_of.spec_of(spec, {}, None, None), f"alone-{number}"))
        return (whole - (time.process_time() - began)) / jobs


def _nothing(job: JobFolder, _stop: Stop) -> Literal["COMPLETED"]:
    with RecordWriter(job.records) as records:
        records.scalar("loss", 1.0, step=0, mode="script")
    return "COMPLETED"


def main() -> None:
    """Search every surface with every strategy and print the medians."""
    if "record" in sys.argv[1:]:
        record()
    overhead(10)  # imports
    print(f"controller: {1000 * overhead():.1f} ms of CPU a trial beside the trial's own work (reach: 10)")
    ways: dict[str, Callable[[Table, str, int], tuple[float, int]]] = {
        "random": full, "bayesian": full, "asha": halving, "hyperband": halving,
    }  # fmt: skip
    print(
        f"best validation loss above the surface's lowest, median (quartiles) of {SEEDS} seeds, {TRIALS} trials; epochs"
    )
    for path in sorted(HERE.glob("*.json")):
        table = Table(path.stem)
        print(f"{path.stem}: {len(table.losses)} points, lowest {table.lowest:.4f}")
        for strategy, way in ways.items():
            began = time.process_time()
            found = [way(table, strategy, seed) for seed in range(SEEDS)]
            above = sorted(loss - table.lowest for loss, _ in found)
            each = 1000 * (time.process_time() - began) / SEEDS / TRIALS
            low, high = above[SEEDS // 4], above[3 * SEEDS // 4]
            print(
                f"  {strategy:10} {median(above):.4f} ({low:.4f} to {high:.4f})  "
                f"{median(epochs for _, epochs in found):4.0f} epochs  {each:.1f} ms of CPU a trial"
            )


if __name__ == "__main__":
    main()
