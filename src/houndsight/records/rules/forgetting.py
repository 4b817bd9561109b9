"""Weights that go ever farther from the pretrained ones for nothing; a rule over distances and validations."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import gap_of_shares
from houndsight.records.rules.rule import Rule
from houndsight.records.rules.start import pretrained
from houndsight.spec import Finding

WAIT, GROWTH = 3, 1.2


class Forgetting(Rule):
    """The backbone leaves its pretrained weights behind while validation gains nothing by it.

    Mathematics: d = |w - w_first| / |w|, median over the backbone. Info where d has grown by a fifth over 3 validations
    whose accuracy is not certainly above that before them; warning where it is certainly below (Newcombe's 95 %
    interval). Source: Li et al. 2018 (ICML, L2-SP); Gouk et al. 2021 (ICLR, distance-based regularisation).
    Severity: info or warning. Repair: a lower rate, fewer trained stages.
    """

    name = "forgetting"
    needs = "distances from the first weights of a pretrained backbone, and validations"
    hears = frozenset({"tensors", "scalars", "confusion"})

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._distances: list[float] = []
        self._seen = 0
        self._told = False
        self._pretrained: bool | None = None

    def judge(self, history: History) -> Iterator[Finding]:
        """Note the distance; judge it at each validation."""
        if self._pretrained is None and len(history.group("weight/")):
            self._pretrained = bool(pretrained(history))
        if not self._pretrained or len(history.validations) == self._seen:
            return
        self._seen = len(history.validations)
        distances, weights = history.pair("distance/", "weight/")
        flags = history.flags(weights)
        far = (history.now(distances, "l2") / np.maximum(history.now(weights, "l2"), 1e-30))[flags.matrix & ~flags.head]
        if not np.isfinite(far).any():
            return
        self._distances.append(float(np.median(far[np.isfinite(far)])))
        if len(self._distances) <= WAIT:
            return
        self.looked = True
        yield from self._judge(history)

    def _judge(self, history: History) -> Iterator[Finding]:
        then, now = history.validations[-1 - WAIT], history.validations[-1]
        known = min(then.n, now.n) > 0 and np.isfinite([then.accuracy, now.accuracy]).all()
        far = self._distances[-1] > GROWTH * self._distances[-1 - WAIT]
        if self._told or not far or not known:
            return
        best = max(history.validations[-WAIT:], key=lambda each: each.accuracy)
        gain, low, high = gap_of_shares(best.accuracy * best.n, best.n, then.accuracy * then.n, then.n)
        if gain > 0:
            return
        self._told = True
        yield self.issue(
            f"The backbone has gone {self._distances[-1]:.1%} of its size away from the pretrained weights by step "
            f"{now.step} ({self._distances[-1 - WAIT]:.1%} {WAIT} validations ago), and validation has gained nothing: "
            f"{then.accuracy:.1%} then, {best.accuracy:.1%} at best since.",
            "Stop earlier: --early-stopping 3; or hold the early stages: --layer-decay 0.7 or --freeze 2.",
            severity="warning" if high < 0 else "info",
            step=now.step,
            evidence={"distance": self._distances[-1], "gain": gain, "low": low, "high": high},
        )
