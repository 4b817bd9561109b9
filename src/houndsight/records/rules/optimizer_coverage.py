"""Parameters that should learn and cannot, or the other way round; a rule over the facts and the first steps."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule, listed
from houndsight.records.rules.start import last_layer
from houndsight.spec import Finding

STEPS = 5


class OptimizerCoverage(Rule):
    """A trainable parameter is in no optimizer or never gets a gradient, a frozen one has one, or the head is frozen.

    Mathematics: sets. Trainable minus those of the optimizers; trainable minus those with a gradient in the first 5
    saved steps; frozen with a gradient; the last layer's weight not trainable; and frozen layers of a network that is
    not pretrained. Source: PyTorch's own semantics of `requires_grad` and `param_groups`.
    Severity: error, warning for parameters without a gradient. Repair: the line to write.
    """

    name = "optimizer_coverage"
    needs = "the parameters of the network and of the optimizer"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._saved = 0

    def judge(self, history: History) -> Iterator[Finding]:
        """Judge the facts at the first saved step, the gradients after five."""
        parameters = history.facts.get("parameters")
        if not parameters or history.moment.mode != "train" or self._saved >= STEPS:
            return
        self._saved += 1
        self.looked = True
        if self._saved == 1:
            yield from self._left_out(history)
            yield from self._frozen(history)
        if self._saved == STEPS:
            yield from self._unreached(history)

    def _left_out(self, history: History) -> Iterator[Finding]:
        every = history.facts["parameters"]
        names = [each["name"] for each in every if each.get("trainable") and each.get("in_optimizer") is False]
        if names:
            layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
            yield self.issue(
                f"{listed(layers)}: {len(names)} trainable parameters are in no optimizer and stay what they are.",
                "Give them to it: optimizer.add_param_group({'params': model."
                f"{layers[0]}.parameters()}}), or freeze them with requires_grad_(False).",
                severity="error",
                step=history.moment.step,
                evidence={"parameters": names[:20]},
            )

    def _frozen(self, history: History) -> Iterator[Finding]:
        every = [each for each in history.facts["parameters"] if each.get("kind", "weight") == "weight"]
        trainable = [bool(each.get("trainable", True)) for each in every]
        if not every or all(trainable):
            return
        head = last_layer(history)[0] or every[-1]["name"]
        if not trainable[-1]:
            yield self.issue(
                f"The last layer, {every[-1]['name'].rpartition('.')[0] or head}, is frozen"
                f"{', as is everything else' if not any(trainable) else ''}: it cannot learn these classes.",
                "Put a new last layer in after freezing the others, or call "
                f"model.{every[-1]['name'].rpartition('.')[0]}.requires_grad_(True).",
                severity="error",
                step=history.moment.step,
                evidence={"frozen": [each["name"] for each, on in zip(every, trainable, strict=True) if not on][:20]},
            )
        names = [each["name"] for each, on in zip(every, trainable, strict=True) if not on]
        if _fresh(history, names):
            yield self.issue(
                f"{len(names)} layers are frozen at random weights ({listed(names)}): nobody ever trained them.",
                "Load pretrained weights (weights='DEFAULT'), or train them: requires_grad_(True).",
                severity="error",
                step=history.moment.step,
                evidence={"frozen": names[:20]},
            )

    def _unreached(self, history: History) -> Iterator[Finding]:
        weights, gradients = history.group("weight/"), history.group("gradient/")
        if not len(gradients):
            return
        there = np.isfinite(history.window(gradients, "l2", STEPS)).any(axis=0)
        reached = {gradients.names[int(at)] for at in np.flatnonzero(there)}
        flags = history.flags(weights)
        unreached = [
            name
            for name, on in zip(weights.names, flags.trainable & flags.stepped, strict=True)
            if on and name not in reached
        ]
        if unreached:
            yield self.issue(
                f"{listed(unreached)}: trainable, but without a gradient in {STEPS} saved steps.",
                "They are not used in the forward pass, or detach() or no_grad() stands between them and the loss. "
                "Remove the layers that are not used, or freeze them.",
                step=history.moment.step,
                evidence={"parameters": unreached[:20]},
            )
        frozen = [name for name in reached if history.parameter(name).get("trainable") is False]
        if frozen:
            yield self.issue(
                f"{listed(sorted(frozen))}: frozen, and yet with a gradient.",
                "Freeze before the optimizer is made, and clear old gradients: optimizer.zero_grad(set_to_none=True).",
                step=history.moment.step,
                evidence={"parameters": sorted(frozen)[:20]},
            )


def _fresh(history: History, names: list[str]) -> bool:
    """Whether these frozen weights are certainly as they were drawn.

    So it is where the facts say that nothing is pretrained; or where the normalisations among the frozen layers have
    seen nothing: means of 0 and variances of 1 throughout, which no training leaves behind.
    """
    told = history.facts.get("pretrained")
    if told is not None:
        return not told
    stems = {name.partition(".")[0] for name in names}
    group = history.group("buffer/")
    means = np.array([name.endswith("running_mean") for name in group.names], bool)
    own = np.array([name.partition(".")[0] in stems for name in group.names], bool)
    spread, middle = history.now(group, "std"), history.now(group, "mean")
    chosen = own & ~means & np.isfinite(spread)
    if chosen.sum() < 2:
        return False
    seen_nothing = (spread[chosen] == 0) & (middle[chosen] == 1)
    return bool(seen_nothing.all())
