"""Validation images that are training images too; a rule over the keys of single images."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import SAMPLES, Rule
from houndsight.spec import Finding

SHARE, MOST = 0.01, 200


class Leakage(Rule):
    """Images of the validation were trained on, so that its numbers are too good.

    Mathematics: the data check of the job found the same picture in two splits; or, where a loop gives keys of images
    (a number that only equal inputs share, see `Samples.keys`), keys of validation were seen in training: 1 % of them
    and at least 3 images. Augmented training images have other keys, so then only those that come unchanged are found.
    Source: exact matching; `houndsight check` for pictures that were changed a little.
    Severity: error from 10 % on, else warning; info where the data check said it already. Repair: the split.
    """

    name = "leakage"
    needs = "the data check, or keys of training and validation images"
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

    def finish(self, history: History) -> Iterator[Finding]:
        """Repeat what the data check says, where the data were checked."""
        if history.check is None:
            return
        self.looked = True
        leaks = [each for each in history.check if str(each.get("rule", "")).endswith("_leak")]
        if leaks and not self._told:
            files = [file for each in leaks for file in each.get("files", ())]
            yield self.issue(
                f"The data check: {leaks[0].get('message', '')}",
                str(leaks[0].get("repair", "")),
                severity="info",  # the check itself says how bad it is
                files=files[:MOST],
                evidence={"files": len(files), "rules": [each["rule"] for each in leaks]},
            )
