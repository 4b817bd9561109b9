"""First weights with which nothing can be learnt; a rule over the first saved steps."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import losses
from houndsight.records.rules.rule import Rule, listed
from houndsight.spec import Finding

GAIN, SPREAD, LARGE, FLAT = 5.0, 1e4, 1e3, 1e-6


class PoorWeightInitialization(Rule):
    """The first weights are all alike, far too large or far too small, so that signals die out or blow up with depth.

    Mathematics, over the first `steps` saved steps: (a) a trainable weight before the head whose standard deviation is
    below 1e-6 of its largest value, or zero: its units stay alike for ever. At the first of them, before any update:
    (b) where the weights are not pretrained, the geometric mean over the layers of the gain rms(w) * sqrt(fan_in)
    outside of 0.02 to 5 (Kaiming's is 1.41, PyTorch's default 0.58); (c) the root mean square of what the activations
    are given spreads over more than 1e4 from layer to layer, or is beyond 1e3. SageMaker's way: the ratio of the
    largest to the smallest variance of the activations' inputs > `threshold`, or p95 - p5 of a gradient <
    `distribution_range`, or `patience` losses without a lower one.
    Source: He et al. 2015 (ICCV), Glorot & Bengio 2010; SageMaker Debugger's documentation.
    Severity: error for (a), warning else. Repair: the initialisation to call.
    """

    name = "poor_weight_initialization"
    needs = "weights of the first steps"
    sagemaker = {
        "activation_inputs_regex": ".*relu_input", "threshold": 10.0, "distribution_range": 0.001, "patience": 5,
        "steps": 10,
    }  # fmt: skip

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._seen = 0
        self._told = False
        self.compatible = any(name in self.given for name in ("threshold", "distribution_range", "patience"))

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at weights, activations and gradients while the training is young."""
        if self._told or self._seen >= self.value("steps") or history.moment.mode != "train":
            return
        self._seen += 1
        found = next(self._theirs(history) if self.compatible else self._alike(history), None)
        if found is None and not self.compatible and self._seen == 1:  # later ones are the optimizer's doing
            found = next(self._gain(history), None) or next(self._depth(history), None)
        if found is not None:
            self._told = True
            yield found

    def _alike(self, history: History) -> Iterator[Finding]:
        group = history.group("weight/")
        if not len(group):
            return
        self.looked = True
        flags = history.flags(group)
        largest = np.maximum(np.abs(history.now(group, "min")), np.abs(history.now(group, "max")))
        flat = history.now(group, "std") <= FLAT * largest
        bad = flat & flags.matrix & flags.trainable & ~flags.head & (flags.size > 1)
        if flags.matrix.any():
            bad[np.flatnonzero(flags.matrix)[-1]] &= bool(bad[flags.matrix].sum() > 1)  # a head of zeros is sound
        if bad.any():
            names = [group.names[at] for at in np.flatnonzero(bad)]
            yield self.issue(
                f"All values of {listed(names)} are alike at step {history.moment.step}: their units get the same "
                "gradients and stay alike.",
                "Start them at random: nn.init.kaiming_normal_(layer.weight, nonlinearity='relu').",
                severity="error",
                step=history.moment.step,
                evidence={"layers": names[:20], "largest": largest[bad][:20]},
            )

    def _gain(self, history: History) -> Iterator[Finding]:
        group = history.group("weight/")
        if not len(group) or history.facts.get("pretrained"):
            return
        flags = history.flags(group)
        rms = history.now(group, "l2") / np.sqrt(flags.size)
        gains = (rms * np.sqrt(flags.fan_in))[flags.matrix & flags.trainable]
        gains = gains[np.isfinite(gains) & (gains > 0)]
        if len(gains) < 2:
            return
        mean = float(np.exp(np.log(gains).mean()))
        if 0.02 <= mean <= GAIN:
            return
        much = "large" if mean > 1 else "small"
        yield self.issue(
            f"The first weights are far too {much}: over the layers, their root mean square times the square root of "
            f"the inputs of a unit is {mean:.2g}; 1.4 keeps a signal's size through ReLU.",
            "Start the layers with nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'), biases with zeros: "
            f"weights {mean / 1.41:.2g} times as large as now are too {much}.",
            step=history.moment.step,
            evidence={"gain": mean, "least": gains.min(), "most": gains.max()},
        )

    def _depth(self, history: History) -> Iterator[Finding]:
        group = history.group("input/")
        norms = history.now(group, "l2")
        means, deviations = history.now(group, "mean"), history.now(group, "std")
        rms = np.sqrt(means**2 + deviations**2)
        there = np.isfinite(norms) & np.isfinite(rms) & (rms > 0)
        if there.sum() < 2:
            return
        self.looked = True
        most, least = np.nanargmax(np.where(there, rms, np.nan)), np.nanargmin(np.where(there, rms, np.nan))
        if rms[most] < LARGE and rms[most] < SPREAD * rms[least]:
            return
        yield self.issue(
            f"Signals change their size with depth: {rms[least]:.1e} in {group.names[least]}, {rms[most]:.1e} in "
            f"{group.names[most]} at step {history.moment.step}.",
            "Start the layers with nn.init.kaiming_normal_(layer.weight, nonlinearity='relu'), or put "
            f"nn.BatchNorm2d after {group.names[most]}.",
            step=history.moment.step,
            evidence={"largest": rms[most], "smallest": rms[least]},
        )

    def _theirs(self, history: History) -> Iterator[Finding]:
        inputs, gradients = history.group("input/"), history.group("gradient/")
        variances = history.now(inputs, "std") ** 2
        ratio = float(np.nanmax(variances) / max(np.nanmin(variances), 1e-30)) if np.isfinite(variances).any() else 0.0
        widths = history.now(gradients, "p95") - history.now(gradients, "p05")
        least = float(np.nanmin(widths)) if np.isfinite(widths).any() else np.inf
        series = losses(history)[1]
        patience = int(self.value("patience"))
        flat = len(series) > patience and bool((series[-patience:] >= series[-patience - 1]).all())
        self.looked = len(inputs) > 0 or len(gradients) > 0
        if ratio > self.value("threshold") or least < self.value("distribution_range") or flat:
            yield self.issue(
                f"Variances of the activations' inputs differ {ratio:.3g} times, the narrowest gradient spans "
                f"{least:.2g}, and the loss {'does not fall' if flat else 'falls'}.",
                "Start the layers with nn.init.kaiming_normal_(layer.weight, nonlinearity='relu').",
                step=history.moment.step,
                evidence={"ratio": ratio, "range": least, "loss_flat": flat},
            )
