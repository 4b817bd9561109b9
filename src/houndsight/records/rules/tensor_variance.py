"""Tensors whose spread collapses or runs away; a rule over weights and outputs."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import Group, History
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.spec import Finding

COLLAPSE, GROWTH, STEPS = 1e-3, 1e3, 3


class TensorVariance(Rule):
    """The spread of a weight or of a layer's output leaves its own range by far: it collapses or runs away.

    Mathematics: the standard deviation is below 1/1000 or above 1000 times of what it was at the first saved step, at
    3 saved steps in a row. SageMaker's way: a variance above `max_threshold` or below `min_threshold`.
    Source: SageMaker Debugger's documentation. Severity: warning. Repair: the weight decay or the learning rate.
    """

    name = "tensor_variance"
    needs = "weights or outputs at several steps"
    sagemaker = {"collection_names": "", "tensor_regex": "", "max_threshold": np.inf, "min_threshold": 0.0}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._first = {"weight/": np.empty(0), "input/": np.empty(0), "output/": np.empty(0)}
        self._streaks = {prefix: Streak(1 if self.compatible else STEPS) for prefix in self._first}

    def judge(self, history: History) -> Iterator[Finding]:
        """Compare the newest saved step of training with the first one, or with the given bounds."""
        if history.moment.mode != "train":
            return
        for prefix, streak in self._streaks.items():
            group = history.group(prefix)
            spread = history.now(group, "std")
            there = np.isfinite(spread)
            if not there.any():
                continue
            first = self._first[prefix]
            if len(first) < len(group):
                first = self._first[prefix] = np.concatenate([first, spread[len(first) :]])
            first[np.isnan(first) | (first == 0)] = spread[np.isnan(first) | (first == 0)]
            self.looked = True
            if self.compatible:
                low, high = spread**2 < self.value("min_threshold"), spread**2 > self.value("max_threshold")
            else:
                low, high = spread < COLLAPSE * first, spread > GROWTH * first
            new = streak.update((low | high) & self.picked(prefix, group.names), there)
            if new.any():
                yield self._told(history, group, new, spread, first)

    def _told(self, history: History, group: Group, new: np.ndarray, spread: np.ndarray, first: np.ndarray) -> Finding:
        at = int(np.flatnonzero(new)[0])
        smaller = spread[at] < first[at]
        decay = history.facts.get("weight_decay")
        collapse = f"Lower --weight-decay from {decay:g} to 0.01." if decay and decay > 0.05 else "Look at the inputs."
        return self.issue(
            f"The spread of {listed([group.names[place] for place in np.flatnonzero(new)])} "
            f"{'collapses' if smaller else 'runs away'}: {spread[at]:.1e} at step {history.moment.step}, "
            f"{first[at]:.1e} at first.",
            collapse if smaller else "Lower the learning rate ten times.",
            step=history.moment.step,
            evidence={"std": spread[at], "first": first[at]},
        )
