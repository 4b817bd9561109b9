"""Batches of one class after the other; a rule over how many classes a batch holds."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import SCALARS, Rule
from houndsight.spec import Finding

STEPS, ENOUGH, SIGMAS, SHARE = 5, 200, 6.0, 0.75


class NotShuffled(Rule):
    """The images come class by class, so that each batch knows a few classes only.

    Mathematics: of B images drawn at random from classes of shares p, sum(1 - (1 - p)^B) classes are expected. Fires
    where the mean over at least 5 batches is 6 standard errors (of independent classes, an upper bound) and a quarter
    below it. Source: the occupancy problem (Feller, vol. I, ch. IV). Severity: warning. Repair: shuffle=True.
    """

    name = "not_shuffled"
    needs = "labels of batches"
    hears = SCALARS

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._told = False
        self._expected: dict[int, tuple[float, float]] = {}

    def judge(self, history: History) -> Iterator[Finding]:
        """Judge all batches so far."""
        seen, sizes = history.scalar("distinct_labels")[1], history.scalar("batch")[1]
        n = min(len(seen), len(sizes))
        if self._told or not STEPS <= n <= ENOUGH or history.classes is None:
            return
        batch = int(np.median(sizes[:n]))
        full = sizes[:n] == batch
        if batch < 4 or full.sum() < STEPS:
            return
        self.looked = True
        mean, variance = self._draw(history, batch)
        found = float(seen[:n][full].mean())
        error = float(np.sqrt(variance / full.sum())) + 1e-9
        if found < mean - SIGMAS * error and found < SHARE * mean:
            self._told = True
            yield self.issue(
                f"A batch of {batch} images holds {found:.1f} classes on average; {mean:.1f} are expected where images "
                f"come in random order (step {history.moment.step}).",
                "Shuffle the training images: DataLoader(..., shuffle=True).",
                step=history.moment.step,
                evidence={"classes": found, "expected": mean, "batch": batch, "batches": int(full.sum())},
            )

    def _draw(self, history: History, batch: int) -> tuple[float, float]:
        """Mean and variance of the number of classes among `batch` images drawn at random."""
        if batch not in self._expected:
            counts = history.facts.get("class_counts")
            classes = history.classes or 1
            shares = np.asarray(counts, float) / np.sum(counts) if counts else np.full(classes, 1 / classes)
            missing = (1 - shares) ** batch
            self._expected[batch] = (float((1 - missing).sum()), float((missing * (1 - missing)).sum()))
        return self._expected[batch]
