"""One run of the zoo under the debugger of one's own loop, and what the rules said.

Beside what the debugger hears by itself, the loop tells what the loop of `houndsight train` tells: which images a step
held and what became of each, the classes' counts, and the modes in validation.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from houndsight.folders import JobFolder
from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Samples
from houndsight.records.tensors import STATISTICS
from houndsight.records.writer import RecordWriter
from houndsight.spec import Finding
from houndsight.watch.debugger import Debugger
from houndsight.watch.loops import LoopDebugger
from houndsight.watch.outlet import Saved, confused
from houndsight.watch.plan import DebugSpec, Schedule

from .runs import CLASSES, Data, Run, batches, hits, loss_of, network, optimizer_of, plain_losses, prepared, rate

RANK = ("info", "warning", "error")


@dataclass
class Outcome:
    """What became of a run."""

    findings: list[Finding]
    accuracy: float
    steps: int

    def fired(self, least: str = "warning") -> set[str]:
        """Rules that found something of at least that severity."""
        issues = [each for each in self.findings if each.status == "IssuesFound"]
        return {each.rule for each in issues if RANK.index(each.severity) >= RANK.index(least)}


def watched(run: Run, folder: Path | None = None, every: int = 6) -> Outcome:
    """Train the run and return what the rules found; its records stay in `folder` where one is given."""
    if folder is None:
        with tempfile.TemporaryDirectory() as place:
            return watched(run, Path(place), every)
    data = prepared(run)
    net = network(run)
    optimizer = optimizer_of(run, net)
    engines: list[Engine] = []

    def rules(known: dict[str, Any]) -> Engine:
        engines.append(Engine(known, statistics=STATISTICS, strict=True, folder=JobFolder(folder)))
        return engines[0]

    facts = {
        "num_classes": CLASSES,
        "batch_size": run.batch,
        "steps_per_epoch": -(-len(data.train_labels) // run.batch),
        "class_counts": torch.bincount(data.train_labels, minlength=CLASSES).tolist(),
        "samples": len(data.train_labels),
        **run.facts,
    }
    spec = DebugSpec(schedule=Schedule(interval=every))
    with RecordWriter(folder / "records") as records:
        debugger = Debugger(folder / "records", spec, rules=rules, facts=facts, strict=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=run.scaler, enabled=run.scaler > 0)
        with LoopDebugger(debugger, [net], [optimizer], records, scaler=scaler if run.scaler else None) as dbg:
            accuracy = _train(run, data, net, optimizer, scaler, dbg)
    return Outcome(dbg.findings, accuracy, debugger.steps["train"])


class _Told:
    """Gathers what the loop of a job tells of single images."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        self._rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def note(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One batch."""
        self._rows.append((ids, plain_losses(logits, labels), logits.detach().argmax(1), labels))

    def end(self, mode: str, images: Tensor, scalars: dict[str, float]) -> None:
        """The epoch or the validation is over."""
        if not self._rows:
            return
        ids, losses, guesses, labels = (torch.cat(column).numpy() for column in zip(*self._rows, strict=True))
        self._rows = []
        once = np.unique(ids, return_index=True)[1]
        samples = Samples(ids[once], losses[once], guesses[once], labels[once], _keys(images)[ids[once]])
        step = max(0, self._debugger.steps["train"] - 1)
        counts = confused(labels, guesses, CLASSES)
        self._debugger.outlet.put(Saved(step, mode, scalars=scalars, samples=samples, confusion=counts))


def _keys(images: Tensor) -> NDArray[np.float64]:
    """(n,) numbers that only equal images share."""
    rows = images.reshape(len(images), -1).double().numpy()
    return np.asarray(rows @ np.sqrt(np.arange(1, rows.shape[1] + 1)))


def _train(
    run: Run,
    data: Data,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    dbg: LoopDebugger,
) -> float:
    told, loss_fn = _Told(dbg.debugger), loss_of(run)
    total = run.epochs * -(-len(data.train_labels) // run.batch)
    step = right = broken = 0
    for epoch in range(run.epochs):
        run.begin_epoch(net)
        for images, labels, ids in batches(run, data.train, data.train_labels, epoch):
            for group in optimizer.param_groups:
                group["lr"] = rate(run, step, total)
            optimizer.zero_grad(set_to_none=True)
            logits = net(images)
            loss = loss_fn(logits, labels)
            told.note(ids, logits, labels)
            broken += not torch.isfinite(loss)
            if broken > 3:  # nobody looks at once
                return right / len(data.valid_labels)
            if run.scaler:
                dbg.debugger.outlet.hear("loss_scale", "train", step, scaler.get_scale())
            if loss.requires_grad:
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            step += 1
        told.end("train", data.train, {})
        right = _validate(run, data, net, told)
        dbg.scalar("val_acc", run.metric(right, len(data.valid_labels)))
    return right / len(data.valid_labels)


def _validate(run: Run, data: Data, net: nn.Module, told: _Told) -> int:
    run.begin_valid(net)
    right = 0
    switched = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d | nn.Dropout)]
    share = sum(each.training for each in switched) / max(1, len(switched))
    with torch.no_grad():
        for ids in torch.split(torch.arange(len(data.valid_labels)), 200):
            logits = net(run.scale(data.valid[ids]))
            nn.functional.cross_entropy(logits, data.valid_labels[ids])
            told.note(ids, logits, data.valid_labels[ids])
            right += hits(logits, data.valid_labels[ids])
    told.end("valid", data.valid, {"training": share} if switched else {})
    return right
