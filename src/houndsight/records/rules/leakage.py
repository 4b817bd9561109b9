"""Validation images that are training images too; a rule over the keys of single images."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import SAMPLES, Rule
from houndsight.spec import Finding

SHARE = 0.01


class Leakage(Rule):
    """Images of the validation were trained on, so that its numbers are too good.

    Mathematics: the key of an image is a number that only equal inputs share (see `Samples.keys`). Keys of validation
    that were seen in training are counted; fires at 1 % of them and at least 3 images. Augmented training images have
    other keys, so with augmentation only images that come unchanged are found; `houndsight check` compares files.
    Source: exact matching. Severity: error from 10 % on, else warning. Repair: the split.
    """

    name = "leakage"
    needs = "keys of training and validation images"
    hears = SAMPLES

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._train: set[float] = set()
        self._valid: set[float] = set()
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Gather keys; compare whenever training or validation brought new ones."""
        samples, mode = history.moment.samples, history.moment.mode
        if samples is None or samples.keys is None or mode not in {"train", "valid"} or self._told:
            return
        (self._train if mode == "train" else self._valid).update(samples.keys[np.isfinite(samples.keys)].tolist())
        if not self._train or not self._valid:
            return
        self.looked = True
        both = len(self._train & self._valid)
        share = both / len(self._valid)
        if both >= 3 and share >= SHARE:
            self._told = True
            yield self.issue(
                f"{both} of {len(self._valid)} validation images ({share:.0%}) were trained on, seen by step "
                f"{history.moment.step}: accuracy on them says nothing about new images.",
                "Split the files once, before anything else, and see that no file is in two folders: "
                "`houndsight check` names the copies.",
                severity="error" if share >= 0.1 else "warning",
                step=history.moment.step,
                evidence={"both": both, "valid": len(self._valid), "train": len(self._train)},
            )
