"""Training that goes on although nothing is gained; a rule over validations."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import gap_of_shares
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding


class Overtraining(Rule):
    """The validation has not become better for many validations, so the time since then was for nothing.

    Mathematics: the least validation loss is `patience_validation` validations old. Info, since the best weights are
    kept; warning where the accuracy has certainly fallen since (Newcombe's interval below 0). SageMaker's way: no loss
    better by more than `delta` within `patience_train` epochs or `patience_validation` validations.
    Source: Prechelt 1998 ("Early stopping, but when?"); SageMaker Debugger's documentation.
    Severity: info or warning. Repair: the number of epochs, or early stopping.
    """

    name = "overtraining"
    needs = "validation losses"
    hears = frozenset({"scalars", "confusion"})
    sagemaker = {"patience_train": 5, "patience_validation": 10, "delta": 0.01}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._seen = 0
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Judge each validation once it is over."""
        if len(history.validations) == self._seen or self._told:
            return
        self._seen = len(history.validations)
        losses = np.array([each.loss for each in history.validations])
        if not np.isfinite(losses).all():
            return
        self.looked = True
        best = _best(losses, self.value("delta") if self.compatible else 0.0)
        waited, patience = len(losses) - 1 - best, int(self.value("patience_validation"))
        epochs = np.array([each.loss for each in history.epochs])
        still = self.compatible and len(epochs) > 0 and np.isfinite(epochs).all()
        idle = len(epochs) - 1 - _best(epochs, self.value("delta")) if still else 0
        if waited < patience and idle < self.value("patience_train"):
            return
        self._told = True
        then, now = history.validations[best], history.validations[-1]
        worse = False
        if min(then.n, now.n) > 0 and np.isfinite([then.accuracy, now.accuracy]).all():
            worse = gap_of_shares(then.accuracy * then.n, then.n, now.accuracy * now.n, now.n)[1] > 0
        yield self.issue(
            f"The best validation loss, {losses[best]:.4g}, is {waited} validations old at step {now.step}"
            f"{'; the accuracy has certainly fallen since' if worse else ''}.",
            f"End after {best + 1} epochs: --epochs {best + 1}, or --early-stopping 3.",
            severity="warning" if worse or self.compatible else "info",
            step=now.step,
            evidence={"best": losses[best], "now": losses[-1], "best_validation": best + 1, "waited": waited},
        )

    def finish(self, history: History) -> Iterator[Finding]:
        """The last validation ends with the run."""
        return self.judge(history)


def _best(losses: np.ndarray, delta: float) -> int:
    """Place of the last loss that was better than all before it by more than `delta`."""
    best = 0
    for place in range(1, len(losses)):
        if losses[place] < losses[best] - delta:
            best = place
    return best
