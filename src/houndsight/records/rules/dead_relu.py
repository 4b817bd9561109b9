"""ReLU layers that give nothing but zeros; a rule over what they are given."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.records.rules.start import kinds
from houndsight.spec import Finding

DEAD, STEPS = 0.8, 4
RELU = ("ReLU", "ReLU6", "GELU", "SiLU", "Hardswish")


class DeadRelu(Rule):
    """A ReLU layer is dead: its units give zero for every image, so that nothing before it can learn.

    Mathematics, on what the layer is given: more than 80 % of its units are nowhere above what the activation lets
    through (0 for ReLU), or its largest sampled input is not, at 4 saved steps in a row. SageMaker's way: more than
    `threshold_layer` % of the units are active less than `threshold_inactivity` % of the time; a unit counts where it
    is active nowhere in the batch. Source: Maas et al. 2013 (ICML workshop); SageMaker Debugger's documentation.
    Severity: error where every unit is dead, else warning. Repair: the bias, the learning rate, or LeakyReLU.
    """

    name = "dead_relu"
    needs = "inputs of ReLU layers"
    sagemaker = {"tensor_regex": ".*relu_output", "threshold_inactivity": 1.0, "threshold_layer": 50.0}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._streak = Streak(STEPS)

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the ReLU layers of the newest saved step of training."""
        if history.moment.mode != "train":
            return
        group = history.group("input/")
        relu = kinds(history, group, RELU)
        dead, most = history.now(group, "dead"), history.now(group, "max")
        there = relu & np.isfinite(most)
        if not there.any():
            return
        self.looked = True
        limit = self.value("threshold_layer") / 100 if self.compatible else DEAD
        dead = np.where(np.isfinite(dead), dead, np.where(most <= 0, 1.0, 0.0))
        new = self._streak.update((dead > limit) & relu, there)
        if not new.any():
            return
        names = [group.names[at] for at in np.flatnonzero(new)]
        worst = int(np.flatnonzero(new)[np.argmax(dead[new])])
        yield self.issue(
            f"{listed(names)} is dead: {dead[worst]:.0%} of the units of {group.names[worst]} give zero for every "
            f"image at step {history.moment.step}.",
            f"Start the biases before {group.names[worst]} with nn.init.zeros_(layer.bias), lower the learning rate "
            "ten times, or use nn.LeakyReLU(0.1) in its place.",
            severity="error" if dead[worst] == 1.0 else "warning",
            step=history.moment.step,
            evidence={"layers": names[:20], "dead": dead[new][:20], "largest_input": most[new][:20]},
        )
