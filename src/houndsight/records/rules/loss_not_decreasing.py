"""A training loss that does not fall, or rises; a rule over the losses."""

from collections.abc import Iterator
from math import log

import numpy as np
from numpy.typing import NDArray

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import Progress, judged, losses, lower_rate, raise_rate
from houndsight.records.rules.rule import SCALARS, Rule
from houndsight.spec import Finding

FIRST, AGAIN, PLATEAU = 24, 1.25, 140


class LossNotDecreasing(Rule):
    """The training loss does not fall, or it rises, and that is certain and not the noise of batches.

    Mathematics: mean of the last third of all losses so far against the first third, with Welch's 95 % interval. Fires
    where the whole interval lies above -2 % (it does not fall) and the loss is above 0.3 ln(classes), or above +5 %
    (it rises); asked first after 24 steps (of standing still after 140: plateaus of 100 are healthy)
    and whenever a quarter more have come, and only after the warm-up.
    SageMaker's way: over `num_steps` recorded losses it fell by less than `diff_percent` % throughout, or rose by more
    than `increase_threshold_percent` %. Source: Welch 1947; SageMaker Debugger's documentation.
    Severity: error where it rises, else warning. Repair: the learning rate, by the size of the steps.
    """

    name = "loss_not_decreasing"
    needs = "24 training losses"
    hears = SCALARS
    sagemaker = {
        "collection_names": "", "tensor_regex": "", "use_losses_collection": True, "num_steps": 10,
        "diff_percent": 0.1, "increase_threshold_percent": 5.0, "mode": "GLOBAL",
    }  # fmt: skip

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._next = FIRST
        self._told = ""
        self._seen = 0
        self.compatible = any(
            name in self.given for name in ("num_steps", "diff_percent", "increase_threshold_percent")
        )

    def judge(self, history: History) -> Iterator[Finding]:
        """Judge the losses so far."""
        steps, series = losses(history)
        if self.compatible:
            yield from self._theirs(history, steps, series)
            return
        while len(series) >= self._next:
            # Judged on exactly so many losses, so that it does not matter when the rule is asked.
            count, self._next = self._next, int(self._next * AGAIN) + 1
            yield from self._ours(history, steps, series, count)

    def finish(self, history: History) -> Iterator[Finding]:
        """Losses that came alone may not have been judged yet."""
        yield from self.judge(history)

    def _ours(
        self, history: History, steps: NDArray[np.int64], series: NDArray[np.float64], count: int
    ) -> Iterator[Finding]:
        rates = history.scalar("lr")[1][:count]
        if len(rates) and int(np.argmax(rates)) > 0.6 * len(rates):
            return  # still warming up
        run = judged(series[:count], history.classes)
        self.looked = True
        if run.falls:
            self._told = ""
            return
        state = "rises" if run.rises else "stands" if run.stuck and count >= PLATEAU else ""
        if state and state != self._told:
            self._told = state
            yield self._issue(history, state, run, int(steps[count - 1]))

    def _issue(self, history: History, state: str, run: Progress, step: int) -> Finding:
        first, last = run.first, run.last
        chance = log(history.classes) if history.classes else None
        blind = chance is not None and abs(last - chance) < 0.05 * chance
        said = f", which is guessing: ln({history.classes}) = {chance:.2f}" if blind and chance is not None else ""
        updates, weights = history.pair("update/", "weight/")
        ratios = history.now(updates, "l2") / np.maximum(history.now(weights, "l2"), 1e-30)
        ratio = float(np.nanmedian(ratios)) if np.isfinite(ratios).any() else float("nan")
        if state == "rises" or ratio > 0.02:
            repair = lower_rate(history, 10)
        elif ratio < 1e-4:
            repair = raise_rate(history, min(1000.0, 1e-3 / max(ratio, 1e-9)))
        else:
            repair = "See that labels belong to their images and that the loss gets raw logits; then try the learning "
            repair += "rate ten times higher and ten times lower."
        return self.issue(
            f"The training loss {'rises' if state == 'rises' else 'does not fall'}: {first:.4g} at first, {last:.4g} "
            f"up to step {step}{said}.",
            repair,
            severity="error" if state == "rises" else "warning",
            step=step,
            evidence={"first": first, "last": last, "update_ratio": ratio},
        )

    def _theirs(self, history: History, at: NDArray[np.int64], series: NDArray[np.float64]) -> Iterator[Finding]:
        steps = int(self.value("num_steps"))
        for place in range(max(self._seen, steps), len(series)):
            self.looked = True
            before, now = float(series[place - steps]), float(series[place])
            flat = bool((series[place - steps + 1 : place + 1] > before * (1 - self.value("diff_percent") / 100)).all())
            rises = now > before * (1 + self.value("increase_threshold_percent") / 100)
            state = "rises" if rises else "stands" if flat else ""
            if state and state != self._told:
                run = Progress(place, before, now, 0.0, 0.0, learnt=False)
                yield self._issue(history, state, run, int(at[place]))
            self._told = state
        self._seen = len(series)
