"""Accuracies and losses that were divided as integers; a rule over the metrics that a loop reports."""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import SCALARS, Rule
from houndsight.spec import Finding

VALUES, METRIC = 4, re.compile(r"acc|loss(?!_scale)|f1|precision|recall|top", re.IGNORECASE)


class IntegerMetrics(Rule):
    """A reported accuracy or loss is a whole number every time: it was divided with // or by an integer tensor.

    Mathematics: at least 4 values of a metric, all whole, not all the same unless 0, of a validation, or of training
    by the epoch. A percentage of exactly 100 images is let through where the number of images is known.
    Also: an accuracy above 1 that is no percentage, or above 100. Source: 15 of 80 public projects.
    Severity: warning. Repair: the division to write.
    """

    name = "integer_metrics"
    needs = "metrics that the loop reports"
    hears = SCALARS

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._done: set[tuple[str, str]] = set()
        self._seen: dict[tuple[str, str], int] = {}

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the metrics that have new values."""
        for name, mode in history.scalar_keys():
            key = (name, mode)
            if key in self._done or not METRIC.search(name):
                continue
            values = history.scalar(name, mode)[1]
            seen, self._seen[key] = self._seen.get(key, 0), len(values)
            self.looked = True
            new = values[seen:]
            if re.search("acc", name, re.IGNORECASE) and ((new > 100) | (new < 0)).any():
                self._done.add(key)
                yield self._beyond(history, name, mode, float(new[(new > 100) | (new < 0)][0]))
            elif (new != np.round(new)).any():
                self._done.add(key)  # one that is no whole number will do
            elif len(values) >= VALUES and len(new):
                yield from self._judge(history, name, mode, values)

    def finish(self, history: History) -> Iterator[Finding]:
        """Metrics that came alone may not have been judged yet."""
        yield from self.judge(history)

    def _beyond(self, history: History, name: str, mode: str, value: float) -> Finding:
        return self.issue(
            f"{name} ({mode}) is {value:.4g} at step {history.moment.step}; an accuracy lies between 0 and 1, or 0 and "
            "100.",
            "Divide the number of hits by the number of images: correct / len(loader.dataset).",
            step=history.moment.step,
            evidence={"metric": name, "mode": mode, "value": value},
        )

    def _judge(self, history: History, name: str, mode: str, values: NDArray[np.float64]) -> Iterator[Finding]:
        unit = bool(((values == 0) | (values == 1)).all())
        images = history.validations[-1].n if history.validations else 0
        if (unit and values.any()) or (0 < images <= 100 and 100 % images == 0):
            return
        self._done.add((name, mode))
        shown = ", ".join(f"{value:g}" for value in values[-4:])
        yield self.issue(
            f"{name} ({mode}) is a whole number every time: {shown}.",
            "Divide as floating-point numbers: running_corrects.item() / len(loader.dataset), with / and not //.",
            step=history.moment.step,
            evidence={"metric": name, "mode": mode, "values": values[-8:]},
        )
