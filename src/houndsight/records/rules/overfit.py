"""A network that learns the training images by heart; a rule over epochs and validations."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import gap_of_shares
from houndsight.records.rules.passes import Judged
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

GAP, RISE, LEAST, OFTEN, LAST = 0.12, 1.3, 30, 3, 2


class Overfit(Rule):
    """The network does well on the training images and certainly worse on others, or ever worse on others.

    Mathematics: the training accuracy of the epoch (better still: of a fixed probe in eval mode) minus the validation
    accuracy, with Newcombe's 95 % interval, lies above 12 points at 3 validations in a row, or at the last 2, and
    validation no longer gains 5 points (batch norm lags behind in the first epochs); or the validation loss is 1.3
    times its least value, and has risen at 3 validations in a row while the training loss fell. SageMaker's way:
    (validation loss - training loss) / training loss > `ratio_threshold` for more than `patience` validations.
    Source: Newcombe 1998 (Statistics in Medicine 17); Prechelt 1998; SageMaker Debugger's documentation.
    Severity: warning. Repair: early stopping at the best epoch, augmentation, fewer trained layers.
    """

    name = "overfit"
    needs = "accuracies or losses of training and validation"
    hears = frozenset({"scalars", "confusion"})
    sagemaker = {"tensor_regex": "", "start_step": 0, "patience": 1, "ratio_threshold": 0.1}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._seen = 0
        self._over = self._wide = 0
        self._gap = (0.0, 0.0, 0.0)
        self._train = Judged(0, float("nan"), float("nan"), 0)
        self._told = False
        self.compatible = any(name in self.given for name in ("patience", "ratio_threshold"))

    def judge(self, history: History) -> Iterator[Finding]:
        """Judge each validation once it is over."""
        if len(history.validations) == self._seen or self._told:
            return
        self._seen = len(history.validations)
        valid = history.validations[-1]
        train = _trained(history, valid)
        if train is None:
            return
        self.looked = True
        found = next(self._theirs(valid, train) if self.compatible else self._ours(history, valid, train), None)
        if found is not None:
            self._told = True
            yield found

    def finish(self, history: History) -> Iterator[Finding]:
        """The last validation ends with the run, and a gap that stood twice is enough there."""
        yield from self.judge(history)
        if self._wide >= LAST and not self._told and not self.compatible:
            yield self._apart(history)

    def _ours(self, history: History, valid: Judged, train: Judged) -> Iterator[Finding]:
        if min(valid.n, train.n) >= LEAST:
            hits, others = train.accuracy * train.n, valid.accuracy * valid.n
            self._gap = gap_of_shares(hits, train.n, others, valid.n)
            self._train = train
            before = history.validations[-2].accuracy if len(history.validations) > 1 else -1.0
            self._wide = self._wide + 1 if self._gap[1] > GAP and valid.accuracy < before + 0.05 else 0
            if self._wide >= OFTEN:
                yield self._apart(history)
                return
        losses = np.array([each.loss for each in history.validations])
        epochs = np.array([each.loss for each in history.epochs])
        if len(losses) >= 4 and np.isfinite(losses).all():
            falling = len(epochs) < 4 or bool(epochs[-1] < epochs[-4])
            if (np.diff(losses[-4:]) > 0).all() and losses[-1] > RISE * losses.min() and falling:
                yield self.issue(
                    f"The validation loss rises: {losses.min():.4g} at its best, {losses[-1]:.4g} at step "
                    f"{valid.step}, while the training loss falls.",
                    _repair(history),
                    step=valid.step,
                    evidence={"best": losses.min(), "now": losses[-1], "best_validation": int(losses.argmin()) + 1},
                )

    def _apart(self, history: History) -> Finding:
        valid, train = history.validations[-1], self._train
        gap, low, high = self._gap
        return self.issue(
            f"Training accuracy {train.accuracy:.1%}, validation accuracy {valid.accuracy:.1%} at step {valid.step}: "
            f"{100 * gap:.0f} points apart (95 % interval {100 * low:.0f} to {100 * high:.0f}).",
            _repair(history),
            step=valid.step,
            evidence={"gap": gap, "low": low, "high": high, "train_n": train.n, "valid_n": valid.n},
        )

    def _theirs(self, valid: Judged, train: Judged) -> Iterator[Finding]:
        if valid.step < self.value("start_step") or not train.loss > 0:
            return
        ratio = (valid.loss - train.loss) / train.loss
        self._over = self._over + 1 if ratio > self.value("ratio_threshold") else 0
        if self._over > self.value("patience"):
            yield self.issue(
                f"The validation loss is {ratio:.0%} above the training loss at step {valid.step}.",
                "Stop earlier: --early-stopping 3; or augment: --augment crop-flip.",
                step=valid.step,
                evidence={"ratio": ratio, "train_loss": train.loss, "valid_loss": valid.loss},
            )


def _trained(history: History, valid: Judged) -> Judged | None:
    """The training images as they are known now: the probe in eval mode, else the epoch, else the recorded losses."""
    steps, accuracies = history.scalar("accuracy", "probe")
    losses = history.scalar("loss", "probe")[1]
    if len(steps):
        n = int(history.facts.get("probe_samples", 0))
        return Judged(int(steps[-1]), float(losses[-1]) if len(losses) else np.nan, float(accuracies[-1]), n)
    epoch = history.epoch_before(valid)
    if epoch is not None:
        return epoch
    plain = history.scalar("loss")[1]
    return Judged(history.moment.step, float(plain[-20:].mean()), float("nan"), 0) if len(plain) else None


def _repair(history: History) -> str:
    losses = [each.loss for each in history.validations]
    best = int(np.nanargmin(losses)) + 1 if np.isfinite(losses).any() else None
    first = f"Stop at validation {best}: --early-stopping 3. " if best and best < len(losses) else ""
    augment = "" if history.facts.get("augment", "none") != "none" else "Augment: --augment crop-flip. "
    freeze = "" if history.facts.get("freeze") == "all" else "Train fewer layers: --freeze all. "
    return f"{first}{augment}{freeze}".strip() or "Give more images."
