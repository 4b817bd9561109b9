"""A network that learns its training images and guesses on all others; a rule over validations."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import share
from houndsight.records.rules.rule import Rule, Severity
from houndsight.spec import Finding

LEAST, SLACK, LEARNT, TWICE, OFTEN, LEAST_STEPS = 40, 0.1, 0.3, 2, 4, 100


class ValidationAtChance(Rule):
    """On validation the network does no better than guessing: it learns by heart, or nothing, or labels are mixed up.

    Mathematics: the upper end of Wilson's 95 % interval of the validation accuracy is below that of always naming the
    largest class plus 10 points; and either the lower end of the training accuracy is 30 points above it, at 2
    validations in a row (error: the labels of the two do not mean the same, or do not belong to their images, or eval
    mode is broken), or this is so at the last 4 validations or more, after 100 steps, while the validation loss has not
    fallen (warning). Source: Zhang et al. 2017 (ICLR: networks learn random labels by heart).
    Severity: error or warning. Repair: where to look.
    """

    name = "validation_at_chance"
    needs = "accuracies of training and validation"
    hears = frozenset({"scalars", "confusion"})

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._seen = 0
        self._held = self._blind = 0
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Judge each validation once it is over."""
        if len(history.validations) == self._seen or self._told:
            return
        self._seen = len(history.validations)
        valid, classes = history.validations[-1], history.classes
        trained = history.epoch_before(valid)
        if classes is None or trained is None or min(valid.n, trained.n) < LEAST or not np.isfinite(valid.accuracy):
            return
        self.looked = True
        counts = history.confusion.get("valid")
        largest = float(counts.sum(axis=1).max() / max(counts.sum(), 1)) if counts is not None else 0.0
        chance = max(1 / classes, largest)
        _, (high,) = share([valid.accuracy * valid.n], [valid.n])
        (low,), _ = share([trained.accuracy * trained.n], [trained.n])
        blind = high < chance + SLACK
        self._held = self._held + 1 if blind and low > chance + LEARNT else 0
        self._blind = self._blind + 1 if blind else 0
        last = [each.loss for each in history.validations[-OFTEN:]]
        idle = self._blind >= OFTEN and valid.step >= LEAST_STEPS and last[-1] >= last[0] - 0.01
        if self._held >= TWICE or idle:
            yield from self._tell(history, chance, "error" if self._held >= TWICE else "warning")

    def finish(self, history: History) -> Iterator[Finding]:
        """The last validation ends with the run, and what it showed stands."""
        yield from self.judge(history)
        if self._held and not self._told:
            yield from self._tell(history, 1 / (history.classes or 1), "error")

    def _tell(self, history: History, chance: float, severity: Severity) -> Iterator[Finding]:
        self._told = True
        valid = history.validations[-1]
        trained = history.epoch_before(valid) or valid
        yield self.issue(
            f"Training accuracy is {trained.accuracy:.1%}, validation accuracy {valid.accuracy:.1%} at step "
            f"{valid.step}; guessing gives {chance:.1%}.",
            "The labels do not mean the same in both, or do not belong to their images: compare "
            "train_set.class_to_idx with valid_set.class_to_idx, look at ten images of each with their labels, and use "
            "the same normalisation for both.",
            severity=severity,
            step=valid.step,
            evidence={"train": trained.accuracy, "valid": valid.accuracy, "chance": chance},
        )
