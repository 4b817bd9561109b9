"""The same batch step after step; a rule over the inputs."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

STEPS = 4


class RepeatedBatches(Rule):
    """The loader gives the same images in every step.

    Mathematics: mean, deviation and norm of the inputs are the same bit for bit at 4 saved steps in a row, where the
    data are more than one batch. Source: exact matching. Severity: error. Repair: the loader.
    """

    name = "repeated_batches"
    needs = "inputs"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._before: tuple[float, ...] = ()
        self._held = 1

    def judge(self, history: History) -> Iterator[Finding]:
        """Compare the inputs of the newest saved step of training with those of the one before."""
        if history.moment.mode != "train" or history.facts.get("steps_per_epoch") == 1:
            return
        inputs = history.one("inputs")
        if "mean" not in inputs or "std" not in inputs:
            return
        now = tuple(inputs.get(key, np.nan) for key in ("mean", "std", "min", "max"))
        self._held = self._held + 1 if now == self._before and inputs["std"] > 1e-6 * abs(inputs["mean"]) else 1
        self._before = now
        self.looked = self.looked or self._held > 1 or history.moment.step > 0
        if self._held == STEPS:
            yield self.issue(
                f"The last {STEPS} saved steps, up to step {history.moment.step}, saw the very same images.",
                "Iterate over the loader, `for images, labels in loader`; `next(iter(loader))` begins anew every time.",
                severity="error",
                step=history.moment.step,
                evidence={"mean": inputs["mean"], "std": inputs["std"]},
            )
