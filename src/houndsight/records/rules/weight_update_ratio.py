"""Steps that are far too large or far too small for the weights; a rule over updates and weights."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import lower_rate, progress, raise_rate
from houndsight.records.rules.rule import Rule, Streak
from houndsight.spec import Finding

LEAP, LARGE, SLOW, SMALL, GOOD, STEPS = 0.5, 0.05, 5e-4, 2e-5, 1e-3, 5


class WeightUpdateRatio(Rule):
    """One step changes the weights by far too much or far too little; a healthy step changes them by about 1/1000.

    Mathematics: r = |update| / |weight| of every trainable weight, its median over the layers. Too much: r > 0.5 in one
    step of three layers or more, or r > 0.05 at 5 saved steps in a row while the loss has not certainly fallen. Too
    little, at 5 saved steps in a row: r < 2e-5 while the loss has certainly not fallen by 2 %, or r < 5e-4 while it is
    still above 0.9 ln(classes) after 60 steps. SageMaker's way: r > `large_threshold` or
    r < `small_threshold` for a layer, with `epsilon` in the denominator.
    Source: A. Karpathy's rule of thumb of 1e-3; Cockpit (Schneider et al. 2021); SageMaker Debugger's documentation.
    Severity: error where too large, warning where too small. Repair: the learning rate that gives 1e-3.
    """

    name = "weight_update_ratio"
    needs = "updates and weights"
    sagemaker = {"large_threshold": 10.0, "small_threshold": 1e-8, "epsilon": 1e-9, "num_steps": 1}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        needed = int(self.value("num_steps")) if self.compatible else STEPS
        self._leapt = False
        self._large, self._small = Streak(needed), Streak(needed)

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest saved step."""
        weights, flags, ratios = history.ratios()
        if not len(weights):
            return
        if self.compatible:
            updates, weights = history.pair("update/", "weight/")
            ratios = history.now(updates, "l2") / (history.now(weights, "l2") + self.value("epsilon"))
        chosen = flags.matrix & flags.trainable & flags.stepped & np.isfinite(ratios) & (ratios < 1e20)
        if not chosen.any():
            return
        self.looked = True
        if self.compatible:
            yield from self._theirs(history, np.where(chosen, ratios, np.nan), weights.names)
            return
        middle = float(np.median(ratios[chosen]))
        run = progress(history) if middle > LARGE or middle < SLOW else None
        if middle > LEAP and chosen.sum() > 2 and not self._leapt:
            self._leapt = True
            yield self._issue(history, middle, "much", lower_rate(history, max(10.0, middle / GOOD / 10)))
        large = middle > LARGE and run is not None and not run.falls and not self._leapt
        small = middle < SLOW and run is not None and (run.blind or (middle < SMALL and run.stuck))
        rates = history.scalar("lr")[1]
        if len(rates) and rates[-1] < 0.3 * rates.max():
            small = False  # the schedule asks for small steps at its ends
        if self._large.update(np.array([large]))[0]:
            yield self._issue(history, middle, "much", lower_rate(history, max(10.0, middle / GOOD)))
        if self._small.update(np.array([small]))[0]:
            factor = min(1000.0, max(10.0, GOOD / max(middle, 1e-12)))
            yield self._issue(history, middle, "little", raise_rate(history, factor))

    def _issue(self, history: History, ratio: float, word: str, repair: str) -> Finding:
        return self.issue(
            f"A step changes the weights by too {word}: by {ratio:.1e} of their size in the median layer at step "
            f"{history.moment.step}{', and the loss stands' if word == 'little' else ''}; 1e-3 is usual.",
            repair,
            severity="error" if word == "much" else "warning",
            step=history.moment.step,
            evidence={"ratio": ratio},
        )

    def _theirs(self, history: History, ratios: np.ndarray, names: tuple[str, ...]) -> Iterator[Finding]:
        large = ratios > self.value("large_threshold")
        small = ratios < self.value("small_threshold")
        for new, word in (
            (self._large.update(large, np.isfinite(ratios)), "much"),
            (self._small.update(small, np.isfinite(ratios)), "little"),
        ):
            if new.any():
                at = int(np.flatnonzero(new)[0])
                repair = lower_rate(history, 10) if word == "much" else raise_rate(history, 10)
                found = self._issue(history, float(ratios[at]), word, repair)
                yield found.model_copy(update={"message": f"{names[at]}: {found.message}"})
