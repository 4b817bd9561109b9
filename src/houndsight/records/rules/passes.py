"""Whole passes over data, validations or epochs of training, put together from the parts in which they are told."""

from dataclasses import dataclass, replace

import numpy as np

from houndsight.records.rules.moment import Moment

KEPT = 16  # passes whose parts are remembered


@dataclass(frozen=True, slots=True)
class Judged:
    """How the network did on one validation, or in one epoch of training."""

    step: int
    """The newest training step before its end."""
    loss: float
    """Mean of the losses recorded in it; NaN where there were none."""
    accuracy: float
    """Share of its images that were recognised; NaN where it is not known."""
    n: int
    """How many images; 0 where it is not known."""


class Passes:
    """Gathers passes by their step.

    Losses and counts of one pass may come apart, with steps of training between them. A pass is listed once all of it
    is known, or once the next one has begun; what comes later still is added to it.
    """

    def __init__(self, loss: str, *, patient: bool) -> None:
        """`loss` is the name of the scalar that is its loss; without `patient` a pass is listed at its first part."""
        self.done: list[Judged] = []
        """The passes that are known, in order."""
        self._loss, self._patient = loss, patient
        self._parts: dict[int, list[Moment]] = {}
        self._open: list[int] = []
        self._places: dict[int, int] = {}

    def add(self, step: int, moment: Moment, n: int) -> None:
        """A part of the pass that ended at `step`; `n` is the number of its images where the counts do not say it."""
        if step not in self._parts:
            if step in self._places:
                return  # so old that its parts were forgotten
            self.end(n)
            self._parts[step] = []
            self._open.append(step)
            if len(self._parts) > KEPT:
                del self._parts[next(iter(self._parts))]
        self._parts[step].append(moment)
        judged = self._judge(step, n)
        known = (np.isfinite(judged.loss), np.isfinite(judged.accuracy), judged.n > 0)
        whole = all(known) if self._patient else any(known[:2])
        if step in self._places:
            self.done[self._places[step]] = judged
        elif step in self._open and whole:
            self._open.remove(step)
            self._list(judged)

    def end(self, n: int) -> None:
        """Nothing more comes of the passes so far."""
        for step in self._open:
            judged = self._judge(step, n)
            if np.isfinite(judged.loss) or np.isfinite(judged.accuracy):
                self._list(judged)
        self._open.clear()

    def _list(self, judged: Judged) -> None:
        self._places[judged.step] = len(self.done)
        self.done.append(judged)

    def _judge(self, step: int, n: int) -> Judged:
        parts = self._parts[step]
        losses = [each.scalars[self._loss] for each in parts if self._loss in each.scalars]
        told = [each.scalars["accuracy"] for each in parts if "accuracy" in each.scalars]
        counts = [each.confusion for each in parts if each.confusion is not None and each.confusion.any()]
        loss = float(np.mean(losses)) if losses else float("nan")
        judged = Judged(step, loss, float(np.mean(told)) if told else float("nan"), n)
        if counts:
            size = int(counts[-1].sum())
            return replace(judged, accuracy=float(np.trace(counts[-1])) / size, n=size)
        return judged
