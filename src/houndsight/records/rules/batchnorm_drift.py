"""Batch norms of a frozen backbone that go on moving; a rule over running means and variances."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import Group, History
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.spec import Finding

DRIFT, STEPS = 0.01, 2


class BatchnormDrift(Rule):
    """The backbone is frozen, but its batch norms are in training mode and take over the statistics of the new images.

    Mathematics: of a running mean or variance whose layer's own weights are frozen, the L2 norm is more than 1 % off
    its first value at 2 saved steps in a row; in eval mode it is the same bit for bit.
    Source: Kornblith et al. 2019 (CVPR), appendix; the usual surprise of `model.train()` on a frozen backbone.
    Severity: warning. Repair: eval() for these modules.
    """

    name = "batchnorm_drift"
    needs = "running means and variances of frozen batch norms"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._first = np.empty(0)
        self._group: Group | None = None
        self._frozen = np.empty(0, bool)
        self._streak = Streak(STEPS, rest=1 << 30)

    def judge(self, history: History) -> Iterator[Finding]:
        """Compare the newest saved step of training with the first."""
        if history.moment.mode != "train":
            return
        group = history.group("buffer/")
        if self._group is not group:
            self._group = group
            names = [name.rpartition(".")[0] + ".weight" for name in group.names]
            self._frozen = np.array([history.parameter(name).get("trainable") is False for name in names], bool)
        frozen = self._frozen
        if not frozen.any():
            return
        norms = history.now(group, "l2")
        there = np.isfinite(norms) & frozen
        if not there.any():
            return
        if len(self._first) < len(norms):
            self._first = np.concatenate([self._first, norms[len(self._first) :]])
        self.looked = True
        drift = np.abs(norms - self._first) / np.maximum(np.abs(self._first), 1e-6)
        new = self._streak.update((drift > DRIFT) & frozen, there)
        if not new.any():
            return
        names = [group.names[at] for at in np.flatnonzero(new)]
        yield self.issue(
            f"The backbone is frozen, but {len(names)} running statistics of its batch norms move ({listed(names)}): "
            f"up to {np.max(drift[new]):.0%} by step {history.moment.step}.",
            "After every model.train() put the frozen part back: model.backbone.eval(), or "
            "for m in model.modules(): if isinstance(m, nn.BatchNorm2d): m.eval().",
            step=history.moment.step,
            evidence={"buffers": names[:20], "drift": drift[new][:20]},
        )
