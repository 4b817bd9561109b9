"""A gradient scaler that finds no scale; a rule over the loss scale."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import SCALARS, Rule
from houndsight.spec import Finding

WINDOW, FALLS, LEAST = 20, 6, 1.0


class LossScale(Rule):
    """With automatic mixed precision the gradients overflow again and again, so that steps are skipped.

    Mathematics: the loss scale fell in at least 6 of the last 20 recorded steps, or is below 1. A scaler that begins
    too high halves a few times and then rests. Source: Micikevicius et al. 2018 (ICLR). Severity: error below 1, else
    warning. Repair: bfloat16, or the initial scale.
    """

    name = "loss_scale"
    needs = "the loss scale of automatic mixed precision"
    hears = SCALARS

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the scale of the newest step."""
        if "loss_scale" not in history.moment.scalars or self._told:
            return
        scales = history.scalar("loss_scale")[1][-WINDOW:]
        self.looked = True
        falls = int((np.diff(scales) < 0).sum())
        if falls >= FALLS or scales[-1] < LEAST:
            self._told = True
            yield self.issue(
                f"The loss scale is {scales[-1]:.3g} at step {history.moment.step} and fell {falls} times in the last "
                f"{len(scales)} steps: gradients overflow in float16, and these steps change nothing.",
                "Use bfloat16 (--precision bfloat16; torch.autocast(dtype=torch.bfloat16) needs no scaler), or clip "
                "the gradients after scaler.unscale_(optimizer).",
                severity="error" if scales[-1] < LEAST else "warning",
                step=history.moment.step,
                evidence={"scale": scales[-1], "falls": falls, "steps": len(scales)},
            )
