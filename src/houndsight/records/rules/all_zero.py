"""Tensors of nothing but zeros; a rule over weights, gradients and outputs."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.spec import Finding

STEPS = 3


class AllZero(Rule):
    """A weight, a gradient or a layer's output is zero throughout, so that the layer cannot learn.

    Mathematics: the share of exact zeros is 1 in a trainable weight or its gradient, in the outputs of a layer or in
    the inputs, at 3 saved steps in a row; in a gradient only while the loss is above 0. Biases and normalisation may
    be zero. SageMaker's way: a share of at least `threshold` % in the tensors that match `tensor_regex`.
    Source: SageMaker Debugger's documentation. Severity: error. Repair: by what is zero.
    """

    name = "all_zero"
    needs = "weights or gradients"
    sagemaker = {"threshold": 100.0, "collection_names": "", "tensor_regex": ""}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._streaks = {
            prefix: Streak(STEPS) for prefix in ("weight/", "gradient/", "input/", "output/", "inputs", "outputs")
        }

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest saved step of training."""
        if history.moment.mode != "train":
            return
        least = self.value("threshold") / 100
        for prefix, streak in self._streaks.items():
            group = history.group(prefix)
            zeros = history.now(group, "zeros")
            there = np.isfinite(zeros)
            if not there.any():
                continue
            self.looked = True
            empty = (zeros >= least) & self.picked(prefix, group.names)
            if not empty.any() and streak.quiet:
                continue
            flags = history.flags(group)
            if prefix in {"weight/", "gradient/"}:
                empty &= flags.matrix & flags.trainable
                last = np.flatnonzero(flags.matrix)[-1:]
                if prefix == "weight/":
                    empty[last] = False  # a head that starts at zero is sound
            if prefix == "gradient/" and history.moment.scalars.get("loss", 1.0) < 1e-3:
                empty[:] = False
            new = streak.update(empty, there)
            if new.any():
                names = [prefix + group.names[at] for at in np.flatnonzero(new)]
                yield self.issue(
                    f"{listed(names)} is zero throughout at step {history.moment.step}.",
                    _repair(prefix),
                    severity="error",
                    step=history.moment.step,
                    evidence={"tensors": names[:20]},
                )


def _repair(prefix: str) -> str:
    return {
        "weight/": "Start it at random: nn.init.kaiming_normal_(layer.weight, nonlinearity='relu').",
        "gradient/": "Nothing flows back to it: look for a dead ReLU, zero weights or detach() behind it, or "
        "freeze it on purpose with requires_grad_(False).",
        "input/": "Look at the layers before it: weights or inputs are zero, or a ReLU is dead.",
        "output/": "Look at the layer before it: weights or inputs are zero, or a ReLU is dead.",
        "inputs": "The images are black: look at reading and normalisation.",
        "outputs": "The network answers zero to every image: look at its last layers.",
    }[prefix]
