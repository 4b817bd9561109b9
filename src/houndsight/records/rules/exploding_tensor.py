"""Values that are not finite, or on their way there; a rule over all tensors after each saved step."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import lower_rate, progress
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.spec import Finding

GROWTH, STEPS = 100.0, 3


class ExplodingTensor(Rule):
    """A tensor holds NaN or an infinity, or a gradient grows far out of its own range, or the loss is not finite.

    Mathematics: a non-finite L2 norm (it is not finite as soon as one value is not), a non-finite loss; or a gradient
    whose L2 norm exceeds 100 times its own median over the last 32 saved steps and 20 MAD above it in log10, at 3
    saved steps in a row, while the loss has risen. Source: SageMaker Debugger's documentation; Pascanu et al. 2013
    (ICML). Severity: error where a value is not finite, else warning. Repair: the learning rate over ten.
    """

    name = "exploding_tensor"
    needs = "tensors"
    hears = frozenset({"tensors", "scalars"})
    sagemaker = {"only_nan": False, "collection_names": "", "tensor_regex": ""}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._finite = True
        self._streak = Streak(STEPS)

    def judge(self, history: History) -> Iterator[Finding]:
        """Look for what is not finite, then for growth."""
        moment = history.moment
        loss = moment.scalars.get("loss", 0.0)
        if "loss" in moment.scalars:
            self.looked = True
        if moment.values is not None:
            self.looked = True
            yield from self._not_finite(history)
            yield from self._growing(history)
        if self._finite and not np.isfinite(loss) and not (self.value("only_nan") and not np.isnan(loss)):
            self._finite = False
            yield self.issue(
                f"The loss of step {moment.step} is {loss}.",
                lower_rate(history, 10),
                severity="error",
                step=moment.step,
                evidence={"loss": loss},
            )

    def _not_finite(self, history: History) -> Iterator[Finding]:
        group = history.group("")
        norms = history.now(group, "l2", history.moment.mode)
        share = history.now(group, "nonfinite", history.moment.mode)
        bad = np.isinf(norms) | (share > 0)
        if self.value("only_nan"):
            bad = share > 0
        if self.compatible:
            bad &= self.picked("", group.names)
        if not bad.any():
            self._finite = True
            return
        if not self._finite:
            return
        self._finite = False
        names = [group.names[at] for at in np.flatnonzero(bad)]
        yield self.issue(
            f"{len(names)} tensors are not finite at step {history.moment.step}: {listed(names)}.",
            lower_rate(history, 10),
            severity="error",
            step=history.moment.step,
            evidence={"tensors": names[:20]},
        )

    def _growing(self, history: History) -> Iterator[Finding]:
        group = history.group("gradient/")
        norms = history.window(group, "l2", 32)
        if len(norms) < 8 or not len(group):
            return
        logs = np.log10(np.maximum(norms, 1e-30))
        usual = np.median(logs[:-3], axis=0)
        spread = 1.4826 * np.median(np.abs(logs[:-3] - usual), axis=0)
        large = logs[-1] > usual + np.maximum(np.log10(GROWTH), 20 * spread)
        new = self._streak.update(large, np.isfinite(logs[-1]))
        run = progress(history)
        if not new.any() or run is None or run.falls:
            return
        names = [group.names[at] for at in np.flatnonzero(new)]
        worst = int(np.argmax(np.where(new, logs[-1] - usual, -np.inf)))
        factor = 10 ** (logs[-1][worst] - usual[worst])
        yield self.issue(
            f"The gradient of {listed(names)} explodes: {norms[-1][worst]:.2e} at step {history.moment.step}, "
            f"{factor:.0f} times what it was.",
            f"{lower_rate(history, 10)} Or clip: torch.nn.utils.clip_grad_norm_(model.parameters(), "
            f"{3 * 10 ** usual[worst]:.2g}).",
            step=history.moment.step,
            evidence={"layers": names[:20], "norm": norms[-1][worst], "usual": 10 ** usual[worst]},
        )
