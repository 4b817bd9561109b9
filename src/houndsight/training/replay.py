"""Runs a job's training again from the checkpoint before a step to exactly that step, and looks at it closely."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from math import isnan
from pathlib import Path

import torch

from houndsight.data.cache import decode_all
from houndsight.data.loader import Batch, Batches
from houndsight.errors import JobError, SpecError
from houndsight.folders import JobFolder
from houndsight.models import network
from houndsight.records.progress import ProgressFile
from houndsight.records.reader import Records
from houndsight.records.writer import RecordWriter
from houndsight.results import Replayed
from houndsight.spec import ClassifierSpec, Index, SplitName
from houndsight.training import soup
from houndsight.training.loop import fit
from houndsight.training.origin import Inspector, Origin
from houndsight.training.prepare import prepare
from houndsight.watch.debugger import Debugger
from houndsight.watch.flight import done_in, newest_before
from houndsight.watch.plan import DebugSpec, Schedule
from houndsight.workspace import remove_tree

log = logging.getLogger("houndsight")

FOLDER = "replay"
"""Where the records of replays are, inside the folder of records, by step."""
EVALUATED = 32  # validation images that are looked at behind the step
WATCHED = 16  # steps up to the one in question of which all statistics are taken


def replay(job: JobFolder, step: int) -> Replayed:
    """Do step number `step` (from 0) again as it was; the job's own files stay as they are.

    Raises `SpecError` for a step that the training does not have, or a job that has no steps.
    """
    if not job.plan.is_file():
        raise SpecError(f"The job '{job.name}' is no training of Houndsight's that has begun.", "Replay another one.")
    spec = ClassifierSpec.read(job.plan)
    if spec.optimizer == "lbfgs" or spec.soup:
        raise SpecError(f"The job '{job.name}' was not trained in steps.", "There is nothing to replay.")
    flights = sorted((job.records / "flight").glob("*"))
    checkpoint = newest_before([job.checkpoints, *flights], step)
    began = done_in(checkpoint) if checkpoint else 0
    place = job.records / FOLDER / str(step)
    remove_tree(place)
    index, net, batches = _rebuilt(job, spec)
    with tempfile.TemporaryDirectory(dir=job.path) as folder:
        if checkpoint is not None:
            _link(checkpoint, Path(folder) / checkpoint.name)
        log.info("From %s to step %d.", f"the checkpoint after {began} steps" if checkpoint else "the beginning", step)
        inspector, error, last = _go(spec, net, batches, Path(folder), place, began, step)
    origin = inspector.origin
    loss = Records(place).curve("loss")
    if not len(loss[0]) or int(loss[0][-1]) != step:
        raise SpecError(f"The training of '{job.name}' ended before step {step}.", "Give an earlier --step.")
    ids = [] if origin is None or last is None or origin.phase == "evaluation" else last.ids[list(origin.rows)].tolist()
    return Replayed(
        job=job.name,
        step=step,
        began=began,
        loss=float(loss[1][-1]),
        finite=origin is None and error is None,
        same=_same(Records(job.records), Records(place)),
        phase=origin.phase if origin else "",
        layer=origin.layer if origin else "",
        operation=origin.operation if origin else "",
        images=tuple(ids),
        files=tuple(index.splits["train"].paths[each] for each in ids),
        message=_told(step, origin, error, float(loss[1][-1])),
        folder=str(place),
    )


def _rebuilt(job: JobFolder, spec: ClassifierSpec) -> tuple[Index, network.Network, Batches]:
    """Data and network as they were when the training began."""
    index, cache = Index.read(job.index), job.path.parent.parent / "cache"
    built = network.build(spec.model_copy(update={"freeze": "none"}), len(index.classes))
    soup.begin(built.network, spec)
    progress = ProgressFile(job.progress)
    index, images = decode_all(index, built.network.preprocess, cache, workers=spec.workers, progress=progress)
    network.freeze_stages(built.network, spec.freeze)
    if spec.batch_norm == "fixed":
        network.fix_batch_norm(built.network)
    with tempfile.TemporaryDirectory(dir=job.path) as folder, RecordWriter(Path(folder)) as records:
        batches = prepare(spec, built.network, index, images, cache, records, progress)
    return index, built.network, batches


def _go(
    spec: ClassifierSpec, net: network.Network, batches: Batches, checkpoints: Path, place: Path, began: int, step: int
) -> tuple[Inspector, JobError | None, Batch | None]:
    """Train to the end of the step; what was seen in it, the error it ended with, and its batch."""
    inspector = Inspector(net)
    watched = _UpTo(batches, inspector, began, step)
    debugger = Debugger(place, DebugSpec(schedule=Schedule(interval=1, start=max(0, step - WATCHED + 1))))
    error: JobError | None = None
    done = began

    def progress(_stage: str, now: int, _total: int) -> None:
        nonlocal done
        done = now

    def stop() -> bool:
        if done <= step:
            return False
        watched.end()
        if inspector.origin is None:  # the step may have led to weights that overflow in the next pass
            _evaluate(net, batches, inspector)
        return True

    quiet = spec.model_copy(update={"checkpoint_seconds": 1e9})
    with RecordWriter(place) as records:
        try:
            fit(net, watched, quiet, checkpoints=checkpoints, records=records, stop=stop, progress=progress,
                debugger=debugger)  # fmt: skip
        except JobError as raised:
            error = raised
        finally:
            watched.end()
            debugger.close()
    return inspector, error, watched.last


def _evaluate(net: network.Network, batches: Batches, inspector: Inspector) -> None:
    """Look at the first validation batch as it would pass now."""
    batch = batches.pick("valid", EVALUATED)
    net.eval()
    inspector.begin(batch, phase="evaluation")
    try:
        with torch.no_grad():
            net(batch.images.to(next(net.parameters()).device))
    finally:
        inspector.end()


class _UpTo:
    """The batches of a training; the inspector is on from the batch of the step in question until `end`."""

    def __init__(self, batches: Batches, inspector: Inspector, began: int, step: int) -> None:
        self._batches, self._inspector, self._now, self._step = batches, inspector, began, step
        self._on = False
        self.steps_per_epoch = batches.steps_per_epoch
        self.last: Batch | None = None

    def train(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, counted."""
        for batch in self._batches.train(epoch, start):
            if self._now == self._step:
                self.last, self._on = batch, True
                self._inspector.begin(batch)
            self._now += 1
            yield batch

    def evaluate(self, split: SplitName) -> Iterator[Batch]:
        """As they are."""
        return self._batches.evaluate(split)

    def pick(self, split: SplitName, most: int) -> Batch:
        """As they are."""
        return self._batches.pick(split, most)

    def end(self) -> None:
        """Look no more."""
        if self._on:
            self._on = False
            self._inspector.end()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _same(before: Records, now: Records) -> bool | None:
    """Whether every loss is that of the first run, to the last bit; None where none was recorded then."""
    known = dict(zip(*(each.tolist() for each in before.curve("loss")), strict=True))
    pairs = [
        (known[step], loss)
        for step, loss in zip(*(e.tolist() for e in now.curve("loss")), strict=True)
        if step in known
    ]
    return all(one == other or (isnan(one) and isnan(other)) for one, other in pairs) if pairs else None


PASSES = {
    "forward": "forward pass",
    "backward": "backward pass",
    "optimizer": "optimizer's step",
    "evaluation": "validation behind it",
}


def _told(step: int, origin: Origin | None, error: JobError | None, loss: float) -> str:
    if origin is None:
        sound = f"Step {step} is sound: its loss is {loss:.4g}, and every operation gave finite numbers."
        return error.message if error is not None else sound
    if origin.phase == "input":
        return f"Step {step} went bad before the network: {len(origin.rows)} of its images hold non-finite values."
    where = f"in {origin.layer}" if origin.layer else "outside of all layers"
    images = f", for {len(origin.rows)} of the images" if origin.rows else ""
    pass_ = PASSES[origin.phase]
    return (
        f"Step {step} went bad in the {pass_}, {where}: the operation {origin.operation} made {origin.values:,} values "
        f"that are not finite{images}, from finite ones up to {origin.largest:.3g}."
    )
