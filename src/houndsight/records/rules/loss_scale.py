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
        self._seen = 0

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the scales that came since it was asked last."""
        steps, scales = history.scalar("loss_scale")
        while self._seen < len(scales) and not self._told:
            self._seen += 1
            self.looked = True
            window, now = scales[max(0, self._seen - WINDOW) : self._seen], float(scales[self._seen - 1])
            falls, step = int((np.diff(window) < 0).sum()), int(steps[self._seen - 1])
            if falls >= FALLS or now < LEAST:
                self._told = True
                yield self._issue(now, falls, len(window), step)

    def finish(self, history: History) -> Iterator[Finding]:
        """Scales that came alone may not have been judged yet."""
        yield from self.judge(history)

    def _issue(self, scale: float, falls: int, count: int, step: int) -> Finding:
        return self.issue(
            f"The loss scale is {scale:.3g} at step {step} and fell {falls} times in the last {count} recorded steps: "
            "gradients overflow in float16, and these steps change nothing.",
            "Use bfloat16 (--precision bfloat16; torch.autocast(dtype=torch.bfloat16) needs no scaler), or clip the "
            "gradients after scaler.unscale_(optimizer).",
            severity="error" if scale < LEAST else "warning",
            step=step,
            evidence={"scale": scale, "falls": falls, "steps": count},
        )
