"""Classes that the network never names; a rule over the confusion counts of validations."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.class_imbalance import class_name
from houndsight.records.rules.history import History
from houndsight.records.rules.rule import CONFUSION, Rule, listed
from houndsight.spec import Finding

LEAST, GOOD, SURE, WAIT, LAST = 6, 0.5, 0.8, 5, 3


class ClassNeverPredicted(Rule):
    """The network is good, and yet there is a class that it never gives as the answer.

    Mathematics: the class's column of the confusion counts is empty although at least 6 validation images are of it, at
    5 validations in a row with more than 80 % of all images right and accuracy up by less than 10 points; or at the
    last 3, with more than half of them right, where accuracy had settled (by less than 5 points). With 6 images a class
    that is named at its proper rate is missed with a probability of e^-6 = 0.25 %. Source: Poisson's law.
    Severity: warning, info up to 80 % accuracy. Repair: class weights, or more images.
    """

    name = "class_never_predicted"
    needs = "predictions on validation images"
    hears = CONFUSION

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._held = np.empty(0, np.int64)
        self._told: set[int] = set()
        self._shares: list[float] = []

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the counts of a validation."""
        counts = history.moment.confusion
        if counts is None or history.moment.mode != "valid":
            return
        self.looked = True
        if len(self._held) != len(counts):
            self._held = np.zeros(len(counts), np.int64)
        good = np.trace(counts) > GOOD * counts.sum()
        silent = (counts.sum(axis=0) == 0) & (counts.sum(axis=1) >= LEAST) & good
        self._held = np.where(silent, self._held + 1, 0)
        share = float(np.trace(counts)) / max(1, int(counts.sum()))
        self._shares.append(share)
        if share > SURE and len(self._shares) >= WAIT and share < self._shares[-WAIT] + 0.1:
            yield from self._tell(history, self._held >= WAIT)

    def finish(self, history: History) -> Iterator[Finding]:
        """What the last validation showed stands."""
        if len(self._shares) >= LAST and self._shares[-1] < self._shares[-LAST] + 0.05:
            yield from self._tell(history, self._held >= LAST)

    def _tell(self, history: History, silent: np.ndarray) -> Iterator[Finding]:
        new = [int(at) for at in np.flatnonzero(silent) if int(at) not in self._told]
        counts = history.confusion.get("valid")
        if not new or counts is None:
            return
        self._told |= set(new)
        names = [class_name(history, at) for at in new]
        yield self.issue(
            f"{listed(names)} is never predicted: {counts[new[0]].sum()} validation images are of {names[0]}, and all "
            "are taken for other classes.",
            f"Weigh the classes: --class-weights balanced; or give more images of {names[0]}.",
            severity="warning" if self._shares[-1] > SURE else "info",
            step=history.moment.step,
            evidence={"classes": names[:20], "images": counts[new].sum(axis=1)[:20]},
        )
