"""A class that is mostly taken for one other; a rule over the confusion counts of validations."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.class_imbalance import class_name
from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import share
from houndsight.records.rules.rule import CONFUSION, Rule
from houndsight.spec import Finding

SHARE, LEAST, GOOD, SURE, WAIT, LAST = 0.5, 8, 0.5, 0.8, 4, 3


class Confusion(Rule):
    """Most images of a class are taken for one and the same other class, while the network is good otherwise.

    Mathematics: of a class's images in validation, the share taken for one other class, with Wilson's 95 % interval,
    lies above one half; at least 8 images; at 4 validations in a row with more than half of all images right, or at the
    last 3 where accuracy had settled (by less than 5 points). SageMaker's way: a diagonal share C[i,i] / sum_j C[i,j]
    below `min_diag`, or C[j,i] / sum_j C[j,i] above `max_off_diag`, by row, since by the whole diagonal, as documented,
    no perfect matrix of several classes passes.
    Source: Wilson 1927; SageMaker Debugger's documentation.
    Severity: warning; info up to 80 % accuracy, unless the two are taken for each other. Repair: look at both folders.
    """

    name = "confusion"
    needs = "predictions on validation images"
    hears = CONFUSION
    sagemaker = {
        "category_no": 0, "labels": "labels", "predictions": "predictions", "labels_collection": "labels",
        "predictions_collection": "predictions", "min_diag": 0.9, "max_off_diag": 0.1,
    }  # fmt: skip

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._held: dict[tuple[int, int], int] = {}
        self._shares: list[float] = []
        self._told: set[tuple[int, int]] = set()
        self.compatible = any(name in self.given for name in ("min_diag", "max_off_diag"))

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the counts of a validation."""
        counts = history.moment.confusion
        if counts is None or history.moment.mode != "valid" or not counts.any():
            return
        self.looked = True
        pairs = self._theirs(counts) if self.compatible else _taken_for(counts)
        self._held = {pair: self._held.get(pair, 0) + 1 for pair in pairs}
        self._shares.append(float(np.trace(counts)) / int(counts.sum()))
        if self.compatible or self._shares[-1] > GOOD:
            yield from self._tell(history, 2 if self.compatible else WAIT)

    def finish(self, history: History) -> Iterator[Finding]:
        """What the last validations showed stands."""
        settled = len(self._shares) >= LAST and self._shares[-1] < self._shares[-LAST] + 0.05
        if self.compatible or settled:
            yield from self._tell(history, 1 if self.compatible else LAST)

    def _theirs(self, counts: np.ndarray) -> set[tuple[int, int]]:
        rows = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        off = rows - np.diag(np.diag(rows))
        bad = off > self.value("max_off_diag")
        low = np.diag(rows) < self.value("min_diag")
        bad[low, off.argmax(axis=1)[low]] = True
        return {(int(i), int(j)) for i, j in zip(*np.nonzero(bad), strict=True) if i != j and counts[i].any()}

    def _tell(self, history: History, times: int) -> Iterator[Finding]:
        pairs = {pair for pair, held in self._held.items() if held >= times}
        counts = history.confusion.get("valid")
        new = sorted(pairs - self._told, key=lambda pair: -int(counts[pair]) if counts is not None else 0)
        if not new or counts is None:
            return
        self._told |= set(new)
        swapped = [pair for pair in new if (pair[1], pair[0]) in pairs]
        true, other = swapped[0] if swapped else new[0]
        named = [f"{class_name(history, i)} for {class_name(history, j)}" for i, j in new]
        yield self.issue(
            f"{counts[true, other]} of {counts[true].sum()} validation images of {class_name(history, true)} are taken "
            f"for {class_name(history, other)}{f'; {len(new) - 1} more pairs are like that' if len(new) > 1 else ''}.",
            f"Look at the images of both: are their folders swapped, or is it one class? Try `houndsight check`. "
            f"Then give more images of {class_name(history, true)}.",
            severity="warning" if self.compatible or self._shares[-1] > SURE or swapped else "info",
            step=history.moment.step,
            evidence={"pairs": named[:20], "counts": [int(counts[pair]) for pair in new[:20]]},
        )


def _taken_for(counts: np.ndarray) -> set[tuple[int, int]]:
    """(class, other class) where the class is certainly taken for the other most of the time."""
    of = counts.sum(axis=1)
    if np.trace(counts) < GOOD * counts.sum():
        return set()
    off = counts - np.diag(np.diag(counts))
    other = off.argmax(axis=1)
    low, _ = share(off.max(axis=1), of)
    return {(int(at), int(other[at])) for at in np.flatnonzero((low > SHARE) & (of >= LEAST))}
