"""Where the wall time of a training went, step by step, as arrays; read from the spans that loops record."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from houndsight.records.reader import Records
from houndsight.records.schema import Span

STEP_PARTS = (
    *("data", "copy", "forward", "backward", "optimizer", "sync", "debugger", "profiler", "checkpoint"),
    *("evaluate", "rest"),
)
"""What the time of a loop is divided into; `rest` is all that belongs to none of the others."""
_AS_REST = ("fit", "rest")
GC, WINDOW, WORKER = MARKS = ("gc", "window", "worker")
"""Spans that lie over the others and take no time of their own away: pauses of the garbage collector and the like."""
LOOP = "loop"
"""Folder, inside that of the records, where the hooks of `houndsight.profile()` write."""
AWAY = 60.0
"""Seconds without any span after which a resumed job is taken to have been away rather than slow."""


@dataclass(frozen=True)
class Timeline:
    """m groups of steps (short steps share one group) and what lies around them; times in seconds since the epoch."""

    start: NDArray[np.float64]
    """When each group began, (m,)."""
    step: NDArray[np.int64]
    """First step of each group, from 0, (m,)."""
    count: NDArray[np.int64]
    """Steps in each group, (m,); 0 for what came between two steps or after the last one."""
    parts: NDArray[np.float64]
    """Seconds of each group by `STEP_PARTS`, (m, parts)."""
    stages: tuple[Span, ...] = ()
    """What was not the loop: building the network, decoding images, the last evaluation."""
    marks: tuple[Span, ...] = ()
    """Spans over the others, see `MARKS`."""
    began: float = 0.0
    """When the records begin."""
    ended: float = 0.0
    """When they end."""

    @property
    def steps(self) -> int:
        """How many steps there were."""
        return int(self.count.sum())

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Length of each group, (m,)."""
        return np.asarray(self.parts.sum(axis=1))

    @property
    def loop_began(self) -> float:
        """When the first step began; the end of the records where there was none."""
        return float(self.start[0]) if len(self.start) else self.ended

    @property
    def loop_ended(self) -> float:
        """When the last step ended."""
        return float(self.start[-1] + self.parts[-1].sum()) if len(self.start) else self.ended

    def totals(self) -> dict[str, float]:
        """Seconds of the loop by part; they sum to its wall time."""
        return dict(zip(STEP_PARTS, self.parts.sum(axis=0).tolist(), strict=True))

    def each(self) -> NDArray[np.float64]:
        """Mean seconds a step of each group that has steps, evaluation and checkpoints not counted, (groups,)."""
        own = self.parts.sum(axis=1) - self.column("evaluate") - self.column("checkpoint")
        return np.asarray((own / np.maximum(self.count, 1))[self.count > 0])

    def column(self, part: str) -> NDArray[np.float64]:
        """Seconds that each group spent on `part`, (m,)."""
        return self.parts[:, STEP_PARTS.index(part)]

    def phases(self) -> list[tuple[str, bool, float]]:
        """(name, whether it is in the loop, seconds) of everything; they sum to the whole wall time."""
        found: dict[tuple[str, bool], float] = {}
        for each in self.stages:
            found[each.name, False] = found.get((each.name, False), 0.0) + each.seconds
        for name, seconds in self.totals().items():
            if seconds > 0:
                found[name, True] = seconds
        left = self.ended - self.began - sum(found.values())
        found["rest", False] = max(0.0, found.get(("rest", False), 0.0) + left)
        return [(name, inside, seconds) for (name, inside), seconds in found.items() if seconds > 0]


def read(folder: Path, steps: int | None = None) -> Timeline:
    """The timeline of the records in `folder`: of its own loop, or of one that `houndsight.profile()` watched.

    `steps` is how many there were, where that is known: the spans do not tell how many the last group holds.
    """
    return build([*Records(folder).spans(), *Records(folder / LOOP).spans()], steps)


def build(spans: list[Span], steps: int | None = None) -> Timeline:
    """Put spans in order and tell the loop from what lies around it."""
    spans = sorted(spans, key=lambda span: span.start)
    marks = [each for each in spans if each.name in MARKS]
    spans = [each for each in spans if each.name not in MARKS]
    inside = [at for at, each in enumerate(spans) if each.name in ("forward", "optimizer")]
    if not inside:
        began = min((each.start for each in spans), default=0.0)
        ended = max((each.start + each.seconds for each in spans), default=began)
        none = np.empty(0)
        empty = np.empty((0, len(STEP_PARTS)))
        return Timeline(none, none.astype(int), none.astype(int), empty, tuple(spans), tuple(marks), began, ended)
    first, last = _bounds(spans, inside[0], inside[-1])
    loop, stages = spans[first : last + 1], [*spans[:first], *spans[last + 1 :]]
    start, step, parts = _grouped(loop)
    count = _counted(step, parts, steps)
    began = min(spans[0].start, start[0])
    ended = max(each.start + each.seconds for each in spans)
    return Timeline(start, step, count, parts, tuple(stages), tuple(marks), began, ended)


def _bounds(spans: list[Span], first: int, last: int) -> tuple[int, int]:
    """Positions of the loop's first and last span: the data before the first forward pass, what follows the last."""
    while first > 0 and spans[first - 1].name in ("data", "copy"):
        first -= 1
    step = spans[last].step
    while last + 1 < len(spans) and spans[last + 1].name in STEP_PARTS + _AS_REST and spans[last + 1].step >= step:
        last += 1
    return first, last


def _grouped(loop: list[Span]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Spans of one step follow each other; gaps between groups are `rest`, unless the job was away."""
    starts: list[float] = []
    steps: list[int] = []
    rows: list[list[float]] = []
    end = loop[0].start
    for span in loop:
        name = "rest" if span.name in _AS_REST or span.name not in STEP_PARTS else span.name
        gap = span.start - end
        if not steps or span.step != steps[-1] or gap > AWAY:
            starts.append(span.start if gap > AWAY or not steps else min(span.start, end))
            steps.append(span.step)
            rows.append([0.0] * len(STEP_PARTS))
        if 0 < gap <= AWAY:
            rows[-1][STEP_PARTS.index("rest")] += gap
        rows[-1][STEP_PARTS.index(name)] += span.seconds
        end = max(end, span.start + span.seconds)
    return np.array(starts), np.array(steps, dtype=np.int64), np.array(rows)


def _trained(parts: NDArray[np.float64]) -> NDArray[np.bool_]:
    columns = [STEP_PARTS.index(each) for each in ("forward", "backward", "optimizer")]
    return np.asarray(parts[:, columns].sum(axis=1) > 0)


def _counted(step: NDArray[np.int64], parts: NDArray[np.float64], steps: int | None) -> NDArray[np.int64]:
    """Steps of each group: those up to the next group that trained; of the last one judged by what others took.

    Where a job went on from an earlier checkpoint the steps go back; the group before it then counts one.
    """
    count = np.zeros(len(step), dtype=np.int64)
    trained = np.flatnonzero(_trained(parts))
    count[trained[:-1]] = np.maximum(np.diff(step[trained]), 1)
    last = trained[-1]
    if steps is not None:
        count[last] = max(1, steps - int(step[last]))
        return count
    if len(trained) > 1 and np.median(count[trained[:-1]]) == 1:
        count[last] = 1  # steps that are long enough have a group each
        return count
    work = parts[:, [STEP_PARTS.index(each) for each in ("forward", "backward", "optimizer")]].sum(axis=1)
    usual = float(np.median(work[trained[:-1]] / count[trained[:-1]])) if len(trained) > 1 else 0.0
    count[last] = max(1, round(float(work[last]) / usual)) if usual > 0 else 1
    return count
