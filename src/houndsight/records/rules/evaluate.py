"""The rules afterwards: from a job's records to the same findings that they gave while it ran."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from houndsight.folders import JobFolder
from houndsight.records.arrays import confusion, read_arrays
from houndsight.records.facts import read_facts
from houndsight.records.reader import Records
from houndsight.records.rules.beside import checked, settings, training_files
from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Moment, Samples
from houndsight.records.rules.similar_across_runs import Other
from houndsight.records.tensors import TensorRecords
from houndsight.spec import Finding

ORDER = {"train": 0, "probe": 1, "valid": 2}


def evaluate(
    job: JobFolder, rules: Sequence[str] = (), *, others: Sequence[JobFolder] = (), strict: bool = False
) -> list[Finding]:
    """Ask the rules about the records of a job; `others` are jobs to compare it with. Nothing is written.

    Raises `SpecError` for a rule or parameter that is not there.
    """
    engine = Engine(read_facts(job.records), rules, strict=strict)
    engine.know(training_files(job), checked(job))
    engine.compare(settings(job), [other_run(each) for each in others])
    replay(engine, job)
    return engine.close()


def replay(engine: Engine, job: JobFolder, until: int | None = None) -> None:
    """Feed the records of a job to an engine, those of steps before `until`; nothing is done about what it finds.

    So an engine of a job that is resumed at step `until` knows what was before, and loses no finding.
    """
    engine.past = True
    for moment in moments(job):
        if until is None or moment.step < until:
            engine.feed(moment)
    engine.flush()
    engine.past = False


def moments(job: JobFolder) -> Iterator[Moment]:
    """What the records hold, as moments in the order of steps; a step's training comes before its validation."""
    scalars: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    times: dict[tuple[int, str], float] = {}
    for each in Records(job.records).scalars():
        scalars[each.step, each.mode][each.name] = each.value
        times[each.step, each.mode] = each.time
    tensors = TensorRecords(job.records)
    saved = {(int(step), mode) for mode in tensors.modes() for step in tensors.steps(mode=mode)}
    counts = {
        (step, mode): cells
        for mode in ("train", "valid")
        for step, cells in read_arrays(job.records, "confusion", mode)
    }
    columns = {(step, "train"): rows for step, rows in read_arrays(job.records, "samples", "train")}
    classes = int(read_facts(job.records).get("num_classes") or 0)
    for key in sorted({*scalars, *saved, *counts, *columns}, key=lambda each: (each[0], ORDER.get(each[1], 3))):
        step, mode = key
        tensor = tensors.read(step, mode) if key in saved else None
        cells = counts.get(key)
        if cells is not None:
            classes = max(classes, int(np.asarray(cells)[:, :2].max(initial=-1)) + 1)
        yield Moment(
            step,
            mode,
            times.get(key, 0.0),
            scalars=scalars.get(key, {}),
            names=tensor.names if tensor is not None else (),
            values=tensor.values if tensor is not None else None,
            samples=_samples(columns.get(key)),
            confusion=None if cells is None else confusion(cells, classes),
        )


def _samples(rows: Any) -> Samples | None:
    if rows is None:
        return None
    table = np.asarray(rows, np.float32)
    return Samples(table[:, 0].astype(np.int64), table[:, 1], table[:, 2].astype(np.int64))


def other_run(job: JobFolder) -> Other:
    """A job as similar_across_runs compares it."""
    steps, losses = Records(job.records).curve("loss")
    return Other(job.name, steps, losses, settings(job))
