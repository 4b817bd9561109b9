"""Weights that no step changes although they should; a rule over updates and weights."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.spec import Finding

STEPS = 4


class UnchangedTensor(Rule):
    """A trainable weight stays exactly what it is, step after step.

    Mathematics: the update's L2 norm is 0 (or, without updates, mean, deviation, norm and quantiles of the weight are
    the same bit for bit) at `num_steps` saved steps in a row while the learning rate is above 0. Frozen parameters
    never fire. SageMaker's way: |w - w before| <= atol + rtol |w before| in those statistics.
    Source: SageMaker Debugger's documentation. Severity: error. Repair: give it to the optimizer, or freeze it.
    """

    name = "unchanged_tensor"
    needs = "weights at several steps"
    sagemaker = {
        "collection_names": "", "tensor_regex": "", "num_steps": 3, "rtol": 1e-5, "atol": 1e-8, "equal_nan": False,
    }  # fmt: skip

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._streak = Streak(int(self.value("num_steps")) if self.compatible else STEPS)

    def judge(self, history: History) -> Iterator[Finding]:
        """Compare the newest saved step of training with the one before."""
        if history.moment.mode != "train":
            return
        updates, _ = history.pair("update/", "weight/")
        if len(updates) and not self.compatible:
            group = updates
            norms = history.now(updates, "l2")
            same, there = norms == 0, np.isfinite(norms)
        else:
            group = history.group("weight/")
            same, there = self._alike(history)
        flags = history.flags(group)
        chosen = flags.trainable & (flags.matrix if not self.compatible else self.picked("weight/", group.names))
        if not (there & chosen).any():
            return
        self.looked = True
        rate = history.moment.scalars.get("lr", 1.0)
        new = self._streak.update(same & chosen & (rate > 0), there)
        if not new.any():
            return
        names = [group.names[at] for at in np.flatnonzero(new)]
        every = new.sum() == chosen.sum()
        yield self.issue(
            f"{'All trainable weights' if every else listed(names)} did not change at all in "
            f"{self._streak.needed} saved steps up to step {history.moment.step}.",
            "Give them to the optimizer (list(model.parameters())), see that optimizer.step() runs and that backward() "
            "reaches them, or freeze them on purpose with requires_grad_(False).",
            severity="error",
            step=history.moment.step,
            evidence={"layers": names[:20]},
        )

    def _alike(self, history: History) -> tuple[np.ndarray, np.ndarray]:
        group = history.group("weight/")
        same, there = np.ones(len(group), bool), np.zeros(len(group), bool)
        for statistic in ("mean", "std", "l2", "p05", "p95"):
            two = history.window(group, statistic, 2)
            if len(two) < 2:
                return np.zeros(len(group), bool), np.zeros(len(group), bool)
            known = np.isfinite(two).all(axis=0)
            near = two[0] == two[1]
            if self.compatible:
                near = np.abs(two[1] - two[0]) <= self.value("atol") + self.value("rtol") * np.abs(two[0])
            same &= near | ~known
            there |= known
        return same, there
