"""Values that are not finite, or on their way there; a rule over all tensors after each saved step."""

from collections.abc import Iterator
from math import log

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.progress import lower_rate, progress
from houndsight.records.rules.rule import Rule, Streak, listed
from houndsight.spec import Finding

GROWTH, FAR, STEPS, AGAIN = 100.0, 20.0, 3, 8


class ExplodingTensor(Rule):
    """A tensor holds NaN or an infinity, or a gradient grows far out of its own range, or the loss is not finite.

    Mathematics: a non-finite L2 norm (it is not finite as soon as one value is not); a loss that is not finite, or 20
    times the first one or that of guessing; or a gradient whose L2 norm exceeds 100 times its own median over the last
    32 saved steps and 20 MAD above it in log10, at 3 saved steps in a row, while the loss has not fallen.
    Source: SageMaker Debugger's documentation; Pascanu et al. 2013 (ICML).
    Severity: error where a value is not finite or the loss explodes, else warning. Repair: the learning rate over ten.
    """

    name = "exploding_tensor"
    needs = "tensors"
    hears = frozenset({"tensors", "scalars"})
    sagemaker = {"only_nan": False, "collection_names": "", "tensor_regex": ""}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._finite, self._told, self._heard = True, False, 0
        self._streak = Streak(STEPS)
        self._saved = 0
        self._usual = self._spread = np.empty(0)

    def judge(self, history: History) -> Iterator[Finding]:
        """Look for what is not finite, then for growth."""
        yield from self._losses(history)
        if history.moment.values is not None:
            self.looked = True
            yield from self._not_finite(history)
            if history.moment.mode == "train":
                yield from self._growing(history)

    def finish(self, history: History) -> Iterator[Finding]:
        """Losses that came alone may not have been judged yet."""
        yield from self._losses(history)

    def _losses(self, history: History) -> Iterator[Finding]:
        steps, losses = history.scalar("loss")
        new, self._heard = losses[self._heard :], max(self._heard, len(losses))
        if not len(new) or self._told:
            return
        self.looked = True
        usual = max(float(losses[0]), log(history.classes or 3))
        bad = np.isnan(new) if self.value("only_nan") else ~(new <= FAR * usual)
        if not bad.any():
            return
        self._told = True
        at = len(losses) - len(new) + int(np.argmax(bad))
        finite = bool(np.isfinite(losses[at]))
        yield self.issue(
            f"The loss of step {steps[at]} is {losses[at]:.4g}; it was {losses[0]:.4g} at first.",
            lower_rate(history, 10),
            severity="error",
            step=int(steps[at]),
            evidence={"loss": losses[at], "first": losses[0], "finite": finite},
        )

    def _not_finite(self, history: History) -> Iterator[Finding]:
        if history.finite():
            self._finite = True
            return
        group, mode = history.group(""), history.moment.mode
        share = history.now(group, "nonfinite", mode)
        bad = (share > 0) if self.value("only_nan") else np.isinf(history.now(group, "l2", mode)) | (share > 0)
        bad &= self.picked("", group.names)
        if not bad.any() or not self._finite:
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
        logs = np.log10(np.maximum(history.now(group, "l2"), 1e-30))
        self._saved += 1
        if self._saved % AGAIN == 0 or len(self._usual) != len(group):
            past = np.log10(np.maximum(history.window(group, "l2", 35)[:-3], 1e-30))
            if len(past) < 8:
                return
            self._usual = np.median(past, axis=0)
            self._spread = 1.4826 * np.median(np.abs(past - self._usual), axis=0)
        large = logs > self._usual + np.maximum(np.log10(GROWTH), 20 * self._spread)
        new = self._streak.update(large, np.isfinite(logs))
        run = progress(history) if new.any() else None
        if run is None or run.falls:
            return
        names = [group.names[at] for at in np.flatnonzero(new)]
        worst = int(np.argmax(np.where(new, logs - self._usual, -np.inf)))
        usual = 10 ** self._usual[worst]
        yield self.issue(
            f"The gradient of {listed(names)} explodes: {10 ** logs[worst]:.2e} at step {history.moment.step}, "
            f"{10 ** logs[worst] / usual:.0f} times what it was.",
            f"{lower_rate(history, 10)} Or clip: torch.nn.utils.clip_grad_norm_(model.parameters(), {3 * usual:.2g}).",
            step=history.moment.step,
            evidence={"layers": names[:20], "norm": 10 ** logs[worst], "usual": usual},
        )
