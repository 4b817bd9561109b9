"""A loss that is summed over the batch; a rule over the loss and the mean loss of its images."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import rate, rounded
from houndsight.records.rules.rule import SCALARS, Rule
from houndsight.spec import Finding

STEPS = 3


class LossReduction(Rule):
    """The loss is the sum over the images of a batch, so that the step grows with the batch size.

    Mathematics: loss / mean cross-entropy of its images is the number of images, within 5 %, at 3 steps in a row of at
    least 4 images; or the facts say `sum`. Source: PyTorch's documentation of `reduction`.
    Severity: warning. Repair: reduction='mean', or the learning rate over the batch size.
    """

    name = "loss_reduction"
    needs = "the loss and the mean cross-entropy of its images, or the reduction"
    hears = frozenset({"tensors"}) | SCALARS

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._held = 0
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest step of training."""
        moment = history.moment
        if moment.mode != "train" or self._told:
            return
        told = history.facts.get("reduction")
        batch = moment.scalars.get("batch", history.facts.get("batch_size", 0))
        loss, plain = moment.scalars.get("loss"), moment.scalars.get("plain_loss")
        if loss is not None and plain is not None and batch >= 4 and plain > 0 and np.isfinite(loss):
            self.looked = True
            self._held = self._held + 1 if abs(loss / plain / batch - 1) < 0.05 else 0
        elif told is not None:
            self.looked = True
            self._held = self._held + 1 if told == "sum" else 0
        if self._held < STEPS:
            return
        self._told = True
        now = rate(history)
        other = (
            f", or divide the learning rate: {now:.3g} becomes {rounded(now / max(batch, 1)):.1g}"
            if now and batch
            else ""
        )
        yield self.issue(
            f"The loss is summed over the batch of {batch:.0f} images"
            f"{f': {loss:.4g} where the mean is {plain:.4g}' if loss is not None and plain is not None else ''}.",
            f"Use reduction='mean'{other}.",
            step=moment.step,
            evidence={"loss": loss, "mean": plain, "batch": batch},
        )
