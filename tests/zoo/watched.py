"""One run of the zoo under the debugger: the loop of runs.py with the debugger around it, and what the rules said."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from houndsight.folders import JobFolder
from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Samples
from houndsight.records.tensors import STATISTICS
from houndsight.spec import Finding
from houndsight.watch import losses
from houndsight.watch.activations import keys
from houndsight.watch.debugger import Debugger
from houndsight.watch.outlet import Saved, confused
from houndsight.watch.plan import DebugSpec, Schedule

from .runs import CLASSES, Run, batches, hits, loss_of, network, optimizer_of, plain_losses, prepared, rate


@dataclass
class Outcome:
    """What became of a run."""

    findings: list[Finding]
    accuracy: float
    steps: int
    seconds: float
    """CPU time of the rules."""

    def fired(self, least: str = "warning") -> set[str]:
        """Rules that found something of at least that severity."""
        rank = ("info", "warning", "error")
        return {
            each.rule
            for each in self.findings
            if each.status == "IssuesFound" and rank.index(each.severity) >= rank.index(least)
        }


def watched(run: Run, folder: Path | None = None, every: int = 4) -> Outcome:
    """Train the run and return what the rules found; its records stay in `folder` where one is given."""
    if folder is None:
        with tempfile.TemporaryDirectory() as place:
            return watched(run, Path(place), every)
    data = prepared(run)
    torch.manual_seed(run.seed)
    net = network(run)
    optimizer = optimizer_of(run, net)
    facts = {
        "num_classes": CLASSES,
        "batch_size": run.batch,
        "steps_per_epoch": -(-len(data.train_labels) // run.batch),
        "class_counts": torch.bincount(data.train_labels, minlength=CLASSES).tolist(),
        "samples": len(data.train_labels),
        **run.facts,
    }
    records = folder / "records"
    engines: list[Engine] = []

    def rules(known: dict[str, Any]) -> Engine:
        engines.append(Engine(known, statistics=STATISTICS, strict=True, folder=JobFolder(folder)))
        return engines[0]

    debugger = Debugger(records, DebugSpec(schedule=Schedule(interval=every)), rules=rules, strict=True)
    debugger.attach([net], [optimizer], **facts)
    accuracy = _train(run, data, net, optimizer, debugger)
    findings = debugger.close()
    return Outcome(findings, accuracy, debugger.steps["train"], engines[0].seconds)


class _Heard:
    """What the losses tell in one epoch, as the debugger of one's own loop gathers it."""

    def __init__(self, debugger: Debugger) -> None:
        self.debugger = debugger
        self.ids: Tensor | None = None
        self.rows: dict[str, list[Any]] = {"train": [], "valid": []}

    def __call__(self, name: str, loss: Tensor, given: Tensor, target: Tensor, _named: dict[str, Any]) -> None:
        mode = "train" if torch.is_grad_enabled() else "valid"
        step = self.debugger.steps["train"] - (mode == "valid")
        each = plain_losses(given, target).numpy()
        self.rows[mode].append(
            (self.ids, each, given.argmax(1).numpy(), target.numpy(), float(loss.detach()), self.debugger)
        )
        if mode == "train":
            self.debugger.outlet.learn({"loss": name})
            hear = self.debugger.outlet.hear
            hear("loss", mode, step, float(loss.detach()))
            hear("plain_loss", mode, step, float(each.mean()))
            hear("batch", mode, step, len(each))
            hear("distinct_labels", mode, step, len(target.unique()))
            if self.debugger.level > 1:
                self.debugger.activations.made(given, "logits")

    def end(self, mode: str, keyed: Tensor, scalars: dict[str, float]) -> None:
        rows = self.rows[mode]
        self.rows[mode] = []
        if not rows:
            return
        ids = np.concatenate([row[0].numpy() for row in rows])
        each, guesses, labels = (np.concatenate([row[at] for row in rows]) for at in (1, 2, 3))
        if mode == "valid":
            scalars = scalars | {"loss": float(each.mean())}
        unique = np.unique(ids, return_index=True)[1]
        self.debugger.outlet.put(
            Saved(
                self.debugger.steps["train"] - 1,
                mode,
                scalars=scalars,
                samples=Samples(
                    ids[unique], each[unique], guesses[unique], labels[unique], keys(keyed)[ids[unique]].numpy()
                ),
                confusion=confused(labels, guesses, CLASSES),
            )
        )


def _train(run: Run, data: Any, net: nn.Module, optimizer: torch.optim.Optimizer, debugger: Debugger) -> float:
    heard = _Heard(debugger)
    loss_fn = loss_of(run)
    scaler = torch.amp.GradScaler("cpu", init_scale=run.scaler, enabled=run.scaler > 0)
    total = run.epochs * -(-len(data.train_labels) // run.batch)
    step, right = 0, 0
    with losses.heard(heard):
        for epoch in range(run.epochs):
            run.begin_epoch(net)
            for images, labels, ids in batches(run, data.train, data.train_labels, epoch):
                heard.ids = ids
                for group in optimizer.param_groups:
                    group["lr"] = rate(run, step, total)
                debugger.outlet.hear("lr", "train", debugger.steps["train"], rate(run, step, total))
                optimizer.zero_grad(set_to_none=True)
                loss = loss_fn(net(images), labels)
                if not loss.requires_grad or not torch.isfinite(loss):
                    break
                if run.scaler:
                    scale = scaler.get_scale()
                    debugger.outlet.hear("loss_scale", "train", step, scale)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                step += 1
            heard.end("train", data.train, {})
            right = _validate(run, data, net, heard)
            if step and not torch.isfinite(loss):
                break
    return right / len(data.valid_labels)


def _validate(run: Run, data: Any, net: nn.Module, heard: _Heard) -> int:
    run.begin_valid(net)
    right, count, whole = 0, len(data.valid_labels), run.metric
    switched = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d | nn.Dropout)]
    share = sum(each.training for each in switched) / max(1, len(switched))
    with torch.no_grad():
        for ids in torch.arange(count).split(100):
            heard.ids = ids
            logits = net(run.scale(data.valid[ids]))
            nn.functional.cross_entropy(logits, data.valid_labels[ids])
            right += hits(logits, data.valid_labels[ids])
    scalars = {"accuracy": whole(right, count)} | ({"training": share} if switched else {})
    heard.end("valid", data.valid, scalars)
    return right
