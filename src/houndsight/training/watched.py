"""The debugger inside the loop: what the loop knows better than hooks do goes to it from here; nothing where it is off.

The loop knows which images a step holds, what the whole epoch made of each, and how validation confuses the classes.
Beside each validation a fixed part of the training images is judged in the same way (mode `probe`): the gap between
the two is what the network has learnt by heart, free of augmentation, dropout and running averages over an epoch.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from houndsight import metrics
from houndsight.data.loader import Batch, Batches, ImageBatches
from houndsight.errors import JobError
from houndsight.folders import JobFolder
from houndsight.models.network import Built, Network
from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Samples
from houndsight.records.tensors import STATISTICS
from houndsight.records.writer import RecordWriter
from houndsight.results import Evaluation
from houndsight.spec import ClassifierSpec, Finding, Index
from houndsight.training.optim import peak
from houndsight.watch.debugger import Debugger
from houndsight.watch.outlet import Saved, confused
from houndsight.watch.plan import DebugSpec, Schedule
from houndsight.workspace import write_json

PROBE = 256
"""Training images in the probe, at most."""

log = logging.getLogger("houndsight")

Numbers = NDArray[np.float32]


class Watched:
    """A debugger that may be off, in the words of the loop."""

    def __init__(self, debugger: Debugger | None, records: RecordWriter) -> None:
        self._debugger, self._records = debugger, records
        self._columns: list[Numbers] = []
        self._probed: Batch | None = None
        self._collecting = True
        self._cost = 0.0  # CPU seconds that one image's own loss takes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._records.listener = None
        if self._debugger is not None:
            self._debugger.detach()

    def attach(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        spec: ClassifierSpec,
        plan: dict[str, int],
        step: int,
    ) -> None:
        """Watch the training from `step` on."""
        self._batches = batches
        if self._debugger is None:
            return
        facts: dict[str, Any] = {
            "batch_size": spec.batch_size,
            "steps_per_epoch": plan["steps_per_epoch"],
            "total_steps": plan["total"],
            "lr": peak(spec),
            "loss": "cross_entropy",
            "reduction": "mean",
            "label_smoothing": spec.label_smoothing,
            "class_weights": spec.class_weights,
            "augment": spec.augment,
            "freeze": spec.freeze,
            "features": not isinstance(batches, ImageBatches),
        }
        if isinstance(batches, ImageBatches) and isinstance(network, Network):
            self._debugger.activations.inputs_of = network.backbone  # behind the normalisation
        self._debugger.outlet.late = True
        self._debugger.batch_size = spec.batch_size
        self._records.listener = self._debugger.outlet.hear
        self._debugger.attach([network], [optimizer], step=step, **facts)

    def note(self, lr: float, batch: Batch) -> None:
        """A step with these images is about to be done."""
        if self._debugger is not None:
            self._debugger.note(lr, batch.ids, {"images": batch.images, "labels": batch.labels, "ids": batch.ids})

    def settled(self, step: int, ids: list[Tensor], logits: Tensor, labels: Tensor, guesses: Tensor) -> None:
        """The losses of the steps up to `step` are known: logits (n, C), labels and guesses (n,)."""
        debugger = self._debugger
        if debugger is None or not self._collecting:
            return
        start = time.thread_time()
        found = samples(torch.cat(ids), logits, labels, guesses)
        self._columns.append(np.column_stack([found.ids, found.losses, found.predictions]).astype(np.float32))
        last = len(ids[-1])
        assert found.labels is not None
        scalars = {
            "plain_loss": float(found.losses[-last:].mean()),
            "distinct_labels": float(len(set(found.labels[-last:].tolist()))),
            "batch": float(last),
        }
        debugger.outlet.put(Saved(step, "train", scalars=scalars, samples=found))
        debugger.governor.timed(start)
        self._cost = (time.thread_time() - start) / len(found.ids)

    def refused(self, step: int, error: JobError, loss: float | None = None) -> None:
        """Loss or validation is not finite at that step: write the flight recorder while the tensors are there."""
        if self._debugger is not None:
            why = Finding(
                source="debugger", severity="error", step=step,
                rule="nonfinite_loss" if loss is not None else "nonfinite_validation",
                message=error.message, repair=error.repair,
            )  # fmt: skip
            self._debugger.dump([why], {} if loss is None else {step: loss})

    def validating(self) -> None:
        """A validation begins: what follows is no step's time."""
        if self._debugger is not None:
            self._debugger.governor.stop_clock()

    def validated(
        self,
        network: nn.Module,
        arithmetic: AbstractContextManager[object],
        logits: NDArray[np.float32],
        labels: NDArray[np.int64],
        step: int,
    ) -> None:
        """The validation gave these logits (n, C): note what is confused, and judge the probe; an epoch ends here."""
        debugger = self._debugger
        if debugger is None:
            return
        start = time.thread_time()
        counts = confused(labels, logits.argmax(1), logits.shape[1])
        columns, self._columns = self._columns, []
        debugger.outlet.put(Saved(step, "valid", confusion=counts))
        if columns:
            debugger.outlet.put(Saved(step, "train", columns=np.concatenate(columns)))
        images = sum(len(each) for each in columns)
        self._collecting = debugger.governor.affords(images * self._cost)
        debugger.governor.timed(start)
        # The probe has a bound of its own, a tenth of the validation, and counts as evaluation.
        loss, accuracy = self._probe(network, arithmetic, max(16, len(labels) // 10))
        self._records.scalars(step, {"loss": loss, "accuracy": accuracy}, "probe")
        debugger.governor.start_clock()

    def _probe(self, network: nn.Module, arithmetic: AbstractContextManager[object], most: int) -> tuple[float, float]:
        """Loss and accuracy on the same training images each time, spread over all classes, as validation has them."""
        device = next(network.parameters()).device
        if self._probed is None:
            self._probed = self._batches.pick("train", min(PROBE, most))
            if self._debugger is not None:
                self._debugger.learn({"probe_samples": len(self._probed.labels)})
        batch = self._probed
        with torch.inference_mode(), arithmetic:
            logits = network(batch.images.to(device)).float().cpu().numpy()
        labels = batch.labels.numpy()
        own = np.take_along_axis(metrics.log_softmax(logits), labels[:, None], axis=1)
        return -float(own.mean()), float(metrics.hits(logits, labels).mean())


def samples(ids: Tensor, logits: Tensor, labels: Tensor, guesses: Tensor) -> Samples:
    """What the network made of each image: its guess, and its plain cross-entropy in nats."""
    logits = logits.detach()
    own = torch.logsumexp(logits, dim=1) - logits.gather(1, labels[:, None])[:, 0]
    return Samples(ids.cpu().numpy(), own.cpu().numpy(), guesses.cpu().numpy(), labels.cpu().numpy())


@contextmanager
def debugged(job: JobFolder, spec: ClassifierSpec, index: Index, built: Built) -> Iterator[Debugger | None]:
    """The debugger of a job, with all rules; None where the job asked for none. The findings are written at the end."""
    if spec.debug == "off":
        yield None
        return
    debugger = Debugger(
        job.records,
        DebugSpec(schedule=Schedule(interval=spec.debug_interval)),
        rules=lambda facts: Engine(facts, spec.rules, on_finding=spec.on_finding, statistics=STATISTICS, folder=job),
        checkpoints=job.checkpoints,
        facts=facts_of(spec, index, built),
    )
    try:
        yield debugger
        if not debugger.begun:  # fitted in closed form: there are no steps, and still classes that may be confused
            debugger.begin({})
            _judge_evaluation(job, debugger)
    finally:
        if debugger.begun:
            debugger.close()
            if debugger.governor.steps:
                log.info("%s", debugger.summary())
            if debugger.broken is not None:
                _confess(job, debugger)


def facts_of(spec: ClassifierSpec, index: Index, built: Built) -> dict[str, Any]:
    """What data and network say of a training before it begins (records/facts.py)."""
    train = index.splits["train"]
    preprocess = built.network.preprocess
    return {
        "num_classes": len(index.classes),
        "classes": list(index.classes),
        "class_counts": np.bincount(train.labels, minlength=len(index.classes)).tolist(),
        "samples": len(train),
        "batch_size": spec.batch_size,
        "pretrained": spec.weights != "none",
        "preprocess": {"mean": list(preprocess.mean), "std": list(preprocess.std)},
        "optimizer": spec.optimizer,
        "loss": "cross_entropy",
    }


def _judge_evaluation(job: JobFolder, debugger: Debugger) -> None:
    path = job.evaluation / "valid.json"
    if path.is_file():
        found = Evaluation.read(path)
        scalars = {"loss": found.metrics["loss"].value, "accuracy": found.metrics["top1"].value}
        debugger.outlet.put(Saved(0, "valid", scalars=scalars, confusion=np.array(found.confusion, np.int64)))


def _confess(job: JobFolder, debugger: Debugger) -> None:
    """The debugger's own mistake, as a finding of the job."""
    known = json.loads(job.findings.read_bytes()) if job.findings.is_file() else {"findings": []}
    own = Finding(
        source="debugger",
        rule="debugger",
        status="Error",
        message=debugger.summary(),
        repair="The training is untouched by it; --debug off trains without the debugger.",
    )
    known["findings"].append(own.model_dump(mode="json"))
    write_json(job.findings, known)
