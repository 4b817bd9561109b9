"""Classes with far fewer training images than others; a rule over counts."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import share
from houndsight.records.rules.rule import Rule, listed
from houndsight.spec import Finding


class ClassImbalance(Rule):
    """One class has more than ten times the training images of another, and the loss does not make up for it.

    Mathematics: largest count / smallest count > `threshold_imbalance`, from the counts of the data, or from at least
    `samples` labels that were seen; a class that never occurs counts as one image. Or, with SageMaker's
    `threshold_misprediction`, the lower end of Wilson's 95 % interval of a class's share of mistakes lies above it.
    Where the loss weighs the classes it is info. Source: Wilson 1927; SageMaker Debugger's documentation.
    Severity: warning, error for an empty class. Repair: --class-weights balanced.
    """

    name = "class_imbalance"
    needs = "labels of the training images"
    hears = frozenset({"tensors", "scalars", "confusion"})
    sagemaker = {
        "threshold_imbalance": 10.0, "threshold_misprediction": 0.7, "samples": 500, "argmax": False,
        "labels_regex": ".*labels", "predictions_regex": ".*predictions",
    }  # fmt: skip

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._counted = False
        self._missed = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the counts once they are known, at the mistakes whenever they are counted."""
        moment = history.moment
        counts = history.facts.get("class_counts")
        if counts is None and moment.mode == "train" and moment.confusion is not None:
            seen = moment.confusion.sum(axis=1)
            counts = seen if seen.sum() >= self.value("samples") else None
        if counts is not None and not self._counted:
            self._counted = self.looked = True
            yield from self._uneven(history, np.asarray(counts, np.float64))
        if "threshold_misprediction" in self.given and moment.confusion is not None and not self._missed:
            yield from self._mistaken(history, moment.confusion)

    def finish(self, history: History) -> Iterator[Finding]:
        """A run without saved steps is judged at its end."""
        if not self._counted:
            yield from self.judge(history)

    def _uneven(self, history: History, counts: np.ndarray) -> Iterator[Finding]:
        if len(counts) < 2 or not counts.any():
            return
        ratio = counts.max() / max(counts.min(), 1.0)
        if ratio <= self.value("threshold_imbalance"):
            return
        few = [
            class_name(history, int(at))
            for at in np.flatnonzero(counts * self.value("threshold_imbalance") < counts.max())
        ]
        weighed = history.facts.get("class_weights") == "balanced"
        yield self.issue(
            f"The largest class, {class_name(history, int(counts.argmax()))}, has {counts.max():.0f} training images, "
            f"{ratio:.0f} times as many as the smallest; few have {listed(few)}.",
            "The loss makes up for it."
            if weighed
            else f"Weigh the classes: --class-weights balanced; or give more images of {listed(few)}.",
            severity="info" if weighed else "warning" if counts.min() > 0 else "error",
            step=history.moment.step,
            evidence={"ratio": ratio, "largest": counts.max(), "smallest": counts.min(), "classes": few[:20]},
        )

    def _mistaken(self, history: History, confusion: np.ndarray) -> Iterator[Finding]:
        of = confusion.sum(axis=1)
        if of.sum() < self.value("samples"):
            return
        low, _ = share(of - np.diag(confusion), of)
        bad = low > self.value("threshold_misprediction")
        if bad.any():
            self._missed = True
            names = [class_name(history, int(at)) for at in np.flatnonzero(bad)]
            yield self.issue(
                f"Most images of {listed(names)} are taken for other classes at step {history.moment.step}.",
                "Weigh the classes: --class-weights balanced; or give more images of them.",
                step=history.moment.step,
                evidence={"classes": names[:20], "at_least": low[bad][:20]},
            )


def class_name(history: History, place: int) -> str:
    """Name of a class, or its number where names are not known."""
    names = history.facts.get("classes")
    return str(names[place]) if names and place < len(names) else f"class {place}"
