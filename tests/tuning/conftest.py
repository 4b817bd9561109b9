"""A workspace and a training that takes a millisecond: a known surface instead of images, in the files of a job."""

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from houndsight.backends.base import Stop
from houndsight.backends.inline import InlineBackend
from houndsight.errors import JobError
from houndsight.folders import JobFolder, TuningFolder
from houndsight.metrics import accuracy
from houndsight.recipes.classifier import complete
from houndsight.records.writer import RecordWriter
from houndsight.results import Evaluation
from houndsight.spec import ClassifierSpec, Index, Split
from houndsight.tuning.events import State, read_state
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.tuner import Tuner
from houndsight.tuning.written import read_space
from houndsight.workspace import Workspace, write_json

IMAGES = 400


def height(spec: ClassifierSpec) -> float:
    """Accuracy that the surface gives a spec when it is trained to its end: best at lr 0.01, momentum 0.9."""
    assert spec.lr is not None
    off = abs(math.log10(spec.lr) + 2) + (abs(spec.momentum - 0.9) if spec.optimizer == "sgd" else 0.05)
    return max(0.1, 0.95 - 0.25 * off)


@dataclass
class Surface:
    """Trains by formula; `trained` counts the epochs of each job, `wrong` is called before each epoch."""

    trained: dict[str, int] = field(default_factory=dict)
    wrong: Callable[[JobFolder, ClassifierSpec, int], None] = lambda _job, _spec, _epoch: None

    def __call__(self, job: JobFolder, stop: Stop) -> Literal["COMPLETED", "STOPPED"]:
        """What `worker.run_job` is for real jobs."""
        asked = ClassifierSpec.read(job.spec)
        spec = ClassifierSpec.read(job.plan) if job.plan.is_file() else complete(asked, IMAGES, lambda _spec: True)
        write_json(job.plan, spec)
        total, pause = spec.epochs or 1, int(job.pause.read_text()) if job.pause.is_file() else None
        counter = job.checkpoints / "epoch"
        job.checkpoints.mkdir(exist_ok=True)
        done = int(counter.read_text()) if counter.is_file() else 0
        with RecordWriter(job.records) as records:
            for epoch in range(done, 0 if spec.soup else total):
                if stop():
                    return "STOPPED"
                self.wrong(job, spec, epoch)
                self.trained[job.name] = self.trained.get(job.name, 0) + 1
                accuracy = height(spec) * (1 - 0.5 ** (epoch + 2))
                records.scalar("lr", spec.lr or 0.0, step=epoch)
                records.scalar("loss", 1 - accuracy, step=epoch, mode="valid")
                records.scalar("accuracy", accuracy, step=epoch, mode="valid")
                counter.write_text(str(epoch + 1))
                if epoch + 1 == pause and epoch + 1 < total:
                    return "STOPPED"
        self.measure(job, spec)
        return "COMPLETED"

    def measure(self, job: JobFolder, spec: ClassifierSpec) -> None:
        """Write evaluations like a real job's: which images are right follows from the height and the seed."""
        generator = np.random.default_rng(spec.seed)
        difficulty = np.random.default_rng(0).random(IMAGES) + generator.normal(0, 0.02, IMAGES)
        right = difficulty < height(spec) * (1 - 0.5 ** ((spec.epochs or 1) + 1))
        labels = np.arange(IMAGES) % 3
        logits = np.eye(3, dtype=np.float32)[np.where(right, labels, (labels + 1) % 3)] * 4
        job.evaluation.mkdir(exist_ok=True)
        np.savez(job.evaluation / "valid.npz", logits=logits, labels=labels, temperature=np.float64(1))
        for split in ("valid", "test") if spec.evaluate_test else ("valid",):
            found = Evaluation(
                split=split, classes=("a", "b", "c"), metrics={"top1": accuracy(logits, labels)}, per_class=(),
                confusion=(), reliability=(), reliability_uncalibrated=(), temperature=1.0,
            )  # fmt: skip
            write_json(job.evaluation / f"{split}.json", found)


INDEX = Index(
    root="data",
    classes=("a", "b", "c"),
    splits={name: Split(paths=("x",), labels=(0,), sizes=(1,)) for name in ("train", "valid", "test")},
    fingerprint="abc",
)


@dataclass
class Bench:
    """Makes tunings over a surface and runs them in this process."""

    place: Workspace
    surface: Surface = field(default_factory=Surface)

    def make(self, *params: str, name: str = "t", **search: Any) -> TuningFolder:
        """The folder of a new tuning."""
        job = {"kind": "classifier", "data": "data", "recipe": "plain", "epochs": 4, **search.pop("job", {})}
        spec = TuningSpec.create(job=job, space=read_space(params or ("lr=log:1e-4..1",)), **{"jobs": 6, **search})
        folder = self.place.create_tuning(spec, name)
        write_json(folder.index, INDEX)
        return folder

    def run(self, folder: TuningFolder, stop: Callable[[], bool] = lambda: False) -> State:
        """Run, or go on with, a tuning; the state it leaves."""
        Tuner(folder, self.place, InlineBackend(self.surface), stop).run()
        return read_state(folder.events)

    def tune(self, *params: str, **search: Any) -> State:
        """A new tuning, run to its end."""
        return self.run(self.make(*params, **search))


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench in a workspace of its own, in memory where there is such a place: a tuning waits for the disk often."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as place:
        yield Bench(Workspace(Path(place)))


def best(folder: TuningFolder) -> dict[str, Any]:
    """What `best.json` says."""
    document: dict[str, Any] = json.loads(folder.best.read_bytes())
    return document


def rules(folder: TuningFolder) -> dict[str, dict[str, Any]]:
    """The findings by their rule."""
    return {each["rule"]: each for each in json.loads(folder.findings.read_bytes())["findings"]}


def fails(message: str) -> JobError:
    """The error of a trial that goes wrong."""
    return JobError(message)
