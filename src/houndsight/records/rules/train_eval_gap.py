"""One set of training images, seen in training mode and in eval mode; a rule over a fixed probe."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import gap_of_shares
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

GAP, LEAST = 0.2, 40


class TrainEvalGap(Rule):
    """In eval mode the network is certainly worse on images it was trained on than it was while training on them.

    Mathematics: accuracy of the epoch in training mode minus accuracy of a fixed part of the training images in eval
    mode, with Newcombe's 95 % interval, lies above 20 points at two looks in a row. Eval mode should be the better one:
    dropout and augmentation are off. The cause is batch norm: running means that did not settle, or batches too small.
    Source: Wu & Johnson 2021 ("Rethinking 'Batch' in BatchNorm"). Severity: warning. Repair: momentum or batch size.
    """

    name = "train_eval_gap"
    needs = "a fixed part of the training images in eval mode (mode probe)"
    hears = frozenset({"scalars"})

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._held = 0

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the probe when it was measured."""
        moment = history.moment
        if moment.mode != "probe" or "accuracy" not in moment.scalars or not history.epochs:
            return
        probe, epoch = moment.scalars["accuracy"], history.epochs[-1]
        n = int(history.facts.get("probe_samples", 0))
        if min(n, epoch.n) < LEAST or not np.isfinite(epoch.accuracy):
            return
        self.looked = True
        gap, low, _ = gap_of_shares(epoch.accuracy * epoch.n, epoch.n, probe * n, n)
        self._held = self._held + 1 if low > GAP else 0
        if self._held == 2:
            yield self.issue(
                f"Training images are recognised at {epoch.accuracy:.1%} in training mode and at {probe:.1%} in eval "
                f"mode at step {moment.step}.",
                "The running means of batch norm do not fit: give larger batches (--batch-size 32 or more), set "
                "nn.BatchNorm2d(momentum=0.1), or use nn.GroupNorm.",
                step=moment.step,
                evidence={"training_mode": epoch.accuracy, "eval_mode": probe, "gap": gap, "low": low},
            )
