"""The first loss against that of guessing; a rule over the first losses."""

from collections.abc import Iterator
from math import log

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import losses
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding


class InitialLoss(Rule):
    """The first loss is far above that of guessing, so the network begins by being certain of the wrong classes.

    Mathematics: an untrained head gives every class the same probability, so the first cross-entropy is ln(classes).
    Fires where that of the first batch is above 1.5 ln(classes) + 1.
    Source: A. Karpathy, "A recipe for training neural networks" (2019).
    Severity: warning. Repair: the start of the head, or the normalisation of the inputs.
    """

    name = "initial_loss"
    needs = "the first losses and the number of classes"
    hears = frozenset({"tensors", "scalars"})

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Judge once, when the first losses are there."""
        (steps, series), classes = losses(history), history.classes
        if self._told or classes is None or classes < 2 or not len(series):
            return
        self._told = True
        if not np.isfinite(series[0]):
            return
        self.looked = True
        first, chance = float(series[0]), log(classes)
        plain = len(history.scalar("plain_loss")[1]) > 0
        if first <= 1.5 * chance + 1 or (not plain and history.facts.get("reduction") == "sum"):
            return
        inputs = history.one("inputs")
        scaled = (
            f" The inputs have a mean of {inputs['mean']:.2g} and a deviation of {inputs['std']:.2g};" if inputs else ""
        )
        yield self.issue(
            f"The first loss is {first:.3g}; guessing among {classes} classes gives ln({classes}) = {chance:.3g}.",
            f"Start the last layer small: nn.init.normal_(weight, std=0.01), nn.init.zeros_(bias).{scaled}"
            f"{' 0 and 1 are right.' if scaled else ''}",
            step=int(steps[0]),
            evidence={"first": first, "chance": chance, "classes": classes},
        )

    def finish(self, history: History) -> Iterator[Finding]:
        """A loss that came alone may not have been judged yet."""
        yield from self.judge(history)
