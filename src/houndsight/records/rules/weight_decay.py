"""Weights that shrink away step by step; a rule over the norms of weights."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import progress
from houndsight.records.rules.rule import Rule, Streak
from houndsight.spec import Finding

RATE, SHRUNK, STEPS, AGAIN = 1e-3, 0.7, 2, 3


class WeightDecay(Rule):
    """The weights shrink so fast that the weight decay leaves nothing for the gradients to do.

    Mathematics: -d ln|w| / d step over the last 16 saved steps, by least squares, median over the trainable weights, is
    above 1e-3, and the norm is below 0.7 of the first, at 2 looks in a row, one every 3 saved steps.
    Decoupled decay alone shrinks by lr * decay a step. A loss that has certainly halved lets it pass.
    Source: Loshchilov & Hutter 2019 (ICLR). Severity: warning. Repair: the weight decay.
    """

    name = "weight_decay"
    needs = "weights at several steps"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._first = np.empty(0)
        self._streak = Streak(STEPS)
        self._saved = 0

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest saved step of training."""
        if history.moment.mode != "train":
            return
        group = history.group("weight/")
        if len(self._first) < len(group):
            self._first = np.concatenate([self._first, history.now(group, "l2")[len(self._first) :]])
        self._saved += 1
        if self._saved % AGAIN:
            return
        norms = history.window(group, "l2", 16)
        if len(norms) < 6:
            return
        flags = history.flags(group)
        chosen = flags.matrix & flags.trainable & np.isfinite(norms).all(axis=0) & (norms > 0).all(axis=0)
        if not chosen.any():
            return
        self.looked = True
        steps = history.saved(16).astype(np.float64)
        logs = np.log(norms[:, chosen])
        centred = steps - steps.mean()
        speed = float(np.median(-(centred @ (logs - logs.mean(axis=0))) / (centred @ centred)))
        left = float(np.median(norms[-1][chosen] / self._first[chosen]))
        run = progress(history)
        learning = run is not None and run.falls and run.last < 0.5 * run.first
        if self._streak.update(np.array([speed > RATE and left < SHRUNK and not learning]))[0]:
            decay = history.facts.get("weight_decay")
            yield self.issue(
                f"The weights shrink by {speed:.2%} a step: {left:.0%} of their first size are left in the median "
                f"layer at step {history.moment.step}.",
                f"Lower --weight-decay from {decay:g} to {min(0.01, decay / 100):g}."
                if decay
                else "Lower --weight-decay to 0.01.",
                step=history.moment.step,
                evidence={"rate": speed, "left": left, "weight_decay": decay},
            )
