"""Tanh and sigmoid layers whose values sit where the derivative is nothing; a rule over what they are given."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from houndsight.records.rules.history import Group, History
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.records.rules.start import kinds
from houndsight.spec import Finding

FLAT, STEPS = {"input/": 0.6, "output/": 0.9}, 3


class SaturatedActivation(Rule):
    """A tanh or sigmoid layer passes on next to no gradient, because nearly all it is given lies where it is flat.

    Mathematics: the share of values beyond 2.99 (tanh) or 5.98 (sigmoid), where the derivative is under 1 % of its
    greatest, is above 60 % at 3 saved steps in a row; or, where outputs are recorded, the mean derivative, which
    follows exactly from their moments as 1 - mean(y^2) for tanh and 4 (mean(y) - mean(y^2)) for the sigmoid, is below
    0.1. SageMaker's way: that share is above `threshold_layer` %, with these bounds for its own (9.5, -23 and 17).
    Source: Glorot & Bengio 2010; SageMaker Debugger's documentation.
    Severity: warning. Repair: a start or a normalisation that keeps inputs near zero.
    """

    name = "saturated_activation"
    needs = "inputs of tanh or sigmoid layers"
    sagemaker = {
        "tensor_regex": ".*tanh_input|.*sigmoid_input", "threshold_tanh_min": -9.4999, "threshold_tanh_max": 9.4999,
        "threshold_sigmoid_min": -23.0, "threshold_sigmoid_max": 16.99999, "threshold_inactivity": 1.0,
        "threshold_layer": 50.0,
    }  # fmt: skip

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._streaks = {prefix: Streak(STEPS) for prefix in FLAT}

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the squashing layers of the newest saved step of training."""
        if history.moment.mode != "train":
            return
        for prefix, streak in self._streaks.items():
            group = history.group(prefix)
            share = history.now(group, "saturated") if prefix == "input/" else _flat(history, group)
            there = np.isfinite(share)
            if not there.any():
                continue
            self.looked = True
            limit = self.value("threshold_layer") / 100 if self.compatible else FLAT[prefix]
            new = streak.update(share > limit, there)
            if new.any():
                yield self._issue(history, group, new, share)

    def _issue(self, history: History, group: Group, new: NDArray[np.bool_], share: NDArray[np.float64]) -> Finding:
        names = [group.names[at] for at in np.flatnonzero(new)]
        worst = int(np.flatnonzero(new)[np.argmax(share[new])])
        return self.issue(
            f"{listed(names)} is saturated: {share[worst]:.0%} of {group.names[worst]} pass on no gradient at step "
            f"{history.moment.step}.",
            f"Start the layer before it with nn.init.xavier_uniform_(weight, gain={5 / 3:.3g}), put nn.BatchNorm2d "
            f"before {group.names[worst]}, and see that the inputs are normalised.",
            step=history.moment.step,
            evidence={"layers": names[:20], "flat": share[new][:20]},
        )


def _flat(history: History, group: Group) -> NDArray[np.float64]:
    """(n,) one minus the mean derivative of the tanh and sigmoid layers, from their outputs; NaN for other layers."""
    tanh, sigmoid = kinds(history, group, ("Tanh", "Hardtanh")), kinds(history, group, ("Sigmoid",))
    means = history.now(group, "mean")
    square = means**2 + history.now(group, "std") ** 2
    return np.where(tanh, square, np.where(sigmoid, 1 - 4 * (means - square), np.nan))
