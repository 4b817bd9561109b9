"""A pretrained backbone that is changed faster than its new head; a rule over updates."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import lower_rate
from houndsight.records.rules.rule import Rule, Streak
from houndsight.records.rules.start import pretrained
from houndsight.spec import Finding

MOST, STEPS = 0.03, 5


class UpdateBalance(Rule):
    """Every step changes a pretrained backbone by percents, so that what it knows is lost before the head has learnt.

    Mathematics: r = |update| / |weight|, median over the backbone's weights; fires where r > 0.03 at 5 saved steps in a
    row and r is more than half of the head's. Source: Howard & Ruder 2018 (ULMFiT: discriminative learning rates);
    Kumar et al. 2022 (ICLR: fine-tuning distorts pretrained features).
    Severity: warning. Repair: the learning rate of the backbone.
    """

    name = "update_balance"
    needs = "updates of a pretrained backbone and its head"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._streak = Streak(STEPS)
        self._pretrained: bool | None = None
        self._asked = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest saved step."""
        if not self._asked and len(history.group("weight/")):
            self._asked, self._pretrained = True, pretrained(history)
        if not self._pretrained or not len(history.group("update/")):
            return
        _, flags, ratios = history.ratios()
        chosen = flags.matrix & flags.trainable & np.isfinite(ratios)
        body, head = ratios[chosen & ~flags.head], ratios[chosen & flags.head]
        if not len(body) or not len(head):
            return
        self.looked = True
        ratio, top = float(np.median(body)), float(np.median(head))
        if self._streak.update(np.array([ratio > MOST and ratio > 0.5 * top]))[0]:
            yield self.issue(
                f"Each step changes the pretrained backbone by {ratio:.1%} (the head by {top:.1%}) at step "
                f"{history.moment.step}: what it knows is being overwritten.",
                f"{lower_rate(history, max(3.0, ratio / 1e-3))} Or train the head first: --recipe lp-ft; or give early "
                "stages less: --layer-decay 0.7.",
                step=history.moment.step,
                evidence={"backbone": ratio, "head": top},
            )
