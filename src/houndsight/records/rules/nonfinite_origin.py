"""Where the first NaN or infinity came from; a rule over all tensors of the step in which it appears."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import lower_rate
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

FORWARD = ("inputs", "input/", "output/", "outputs", "logits", "loss")


class NonfiniteOrigin(Rule):
    """Which tensor was the first to hold NaN or an infinity, in the order in which a step computes.

    Mathematics: in the first saved step with a value that is not finite, the first in the order inputs, weights,
    activations as they were computed, loss, gradients from the last layer to the first. The order is that in which
    tensors are recorded. `houndsight replay` goes back to the exact step, operation and image.
    Source: torch's anomaly mode, without its cost. Severity: error. Repair: by what came first.
    """

    name = "nonfinite_origin"
    needs = "tensors"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest saved step, until the first one that is not finite."""
        self.looked = True
        if self._told or history.finite():
            return
        group, mode = history.group(""), history.moment.mode
        norms, share = history.now(group, "l2", mode), history.now(group, "nonfinite", mode)
        bad = np.isinf(norms) | (share > 0)
        if not bad.any():
            return
        self._told = True
        first = min((group.names[at] for at in np.flatnonzero(bad)), key=lambda name: _order(name, group.names))
        yield self.issue(
            f"The first values that are not finite are those of {first}, at step {history.moment.step}.",
            _repair(first, history),
            severity="error",
            step=history.moment.step,
            evidence={"first": first, "tensors": int(bad.sum())},
        )


def _order(name: str, names: tuple[str, ...]) -> tuple[int, int]:
    place = names.index(name)
    if name.startswith("inputs"):
        return (0, place)
    if name.startswith(("weight/", "buffer/")):
        return (1, place)
    if name.startswith(FORWARD):
        return (2, place)
    return (3, -place)


def _repair(first: str, history: History) -> str:
    if first.startswith("inputs"):
        return "Look at the images of this step: a pixel or its normalisation is not finite (is a std 0?)."
    if first.startswith("weight/"):
        return f"An earlier step spoilt the weights. {lower_rate(history, 10)}"
    if first.startswith(FORWARD):
        return (
            f"The activation overflows: put a normalisation layer before it, or use float32. {lower_rate(history, 10)}"
        )
    return f"The gradient overflows. {lower_rate(history, 10)} Or clip the gradient's norm to 1."
