"""Gradients that are too small to move a weight; a rule over the gradients after each saved step."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import progress, raise_rate
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.spec import Finding

RELATIVE, ABSOLUTE, STEPS = 1e-5, 1e-8, 4


class VanishingGradient(Rule):
    """The gradient of a layer is so small against the other layers', or in itself, that the layer does not learn.

    Mathematics: g = L2 / sqrt(values) of every trainable weight. Fires where g < 1e-5 of the median layer's, or where
    g < 1e-8 in every layer while the loss does not fall, at 4 saved steps in a row; a loss that is low already or a
    frozen layer never fires. Exact zeros are left to all_zero. SageMaker's way: mean |g| = L1 / values < `threshold`.
    Source: Glorot & Bengio 2010 (AISTATS); SageMaker Debugger's documentation.
    Severity: warning. Repair: normalisation or a start fit for the activation; a higher learning rate where all vanish.
    """

    name = "vanishing_gradient"
    needs = "gradients"
    sagemaker = {"threshold": 1e-7}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._streak = Streak(1 if self.compatible else STEPS)

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the gradients of the newest saved step."""
        group = history.group("gradient/")
        if not len(group):
            return
        flags = history.flags(group)
        if self.compatible:
            small = history.now(group, "l1") / flags.size
            few = small < self.value("threshold")
        else:
            small = history.now(group, "l2") / np.sqrt(flags.size)
            ours = flags.matrix & flags.trainable & flags.stepped & (small > 0)
            if ours.sum() < 2:
                return
            least, most = small[ours].min(), small[ours].max()
            few = np.zeros(len(group), bool)
            if least < RELATIVE * most:
                few = ours & (small < RELATIVE * np.median(small[ours]))
            if most < ABSOLUTE:
                run = progress(history)
                few = ours & bool(run and run.stuck)
        self.looked = True
        new = self._streak.update(few, np.isfinite(small))
        if not new.any():
            return
        names = [group.names[at] for at in np.flatnonzero(new)]
        least = int(np.flatnonzero(new)[np.argmin(small[new])])
        everywhere = new.sum() > 0.8 * len(group)
        yield self.issue(
            f"The gradient of {listed(names)} all but vanishes: {small[least]:.1e} a value in {group.names[least]} at "
            f"step {history.moment.step}, {np.nanmedian(small):.1e} in the median layer.",
            raise_rate(history, 100)
            if everywhere
            else f"Put a normalisation layer before {group.names[least].rpartition('.')[0] or 'it'}, start with "
            "kaiming_normal_ for ReLU or xavier_uniform_ for tanh, or freeze the layer on purpose.",
            step=history.moment.step,
            evidence={"layers": names[:20], "rms": small[new][:20], "median_rms": np.nanmedian(small)},
        )
