"""Training images whose label looks wrong; a rule over the losses of single images."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.class_imbalance import class_name
from houndsight.records.rules.history import History
from houndsight.records.rules.rule import SAMPLES, Rule, listed
from houndsight.spec import Finding

UNLIKELY, TWICE, MOST, GOOD = np.log(10.0), 2, 200, 0.6


class LabelSuspects(Rule):
    """Training images that the network takes for one and the same other class, with confidence, epoch after epoch.

    Mathematics: an image is suspect where its loss is above ln(10) (its own label has less than 10 %) and above the
    epoch's median by 5 MAD, with the same wrong prediction in 2 epochs in a row, while more than 60 % of the epoch's
    images are recognised. Images are ranked by how often they were, then by loss. Learning by heart makes suspects
    vanish in late epochs, so the early ones count as much. Source: Arpit et al. 2017 (ICML), Pleiss et al. 2020 (AUM).
    Severity: info, always: they are for people to look at. Repair: the files to look at.
    """

    name = "label_suspects"
    needs = "the losses of single training images over two epochs"
    hears = SAMPLES

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._times: dict[int, int] = {}
        self._loss: dict[int, float] = {}
        self._called: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def judge(self, history: History) -> Iterator[Finding]:
        """Gather what an epoch says; nothing is told before the end."""
        samples = history.moment.samples
        if samples is not None and history.moment.mode == "train" and len(samples.ids) >= 20:
            losses = samples.losses.astype(np.float64)
            middle = float(np.median(losses))
            spread = 1.4826 * float(np.median(np.abs(losses - middle)))
            # Of an image that is recognised the label has more than any other class; over ln(2) most are not.
            good = float((losses < np.log(2.0)).mean()) > GOOD
            bad = np.isfinite(losses) & (losses > max(UNLIKELY, middle + 5 * spread)) & good
            now = dict(zip(samples.ids[bad].tolist(), samples.predictions[bad].tolist(), strict=True))
            for place in np.flatnonzero(bad):
                number, called = int(samples.ids[place]), int(samples.predictions[place])
                if self._before.get(number) == called:
                    self._times[number] = self._times.get(number, 1) + 1
                    self._loss[number] = max(self._loss.get(number, 0.0), float(losses[place]))
                    self._called[number] = called
            if self._before or good:
                self.looked = True
            self._before = now
        yield from ()

    def finish(self, history: History) -> Iterator[Finding]:
        """Name the images."""
        suspects = sorted(self._times, key=lambda number: (-self._times[number], -self._loss[number]))
        if not suspects:
            return
        files = [history.files[number] for number in suspects[:MOST] if number < len(history.files)]
        named = files or [f"image {number}" for number in suspects]
        count = f"{len(suspects)} training images are" if len(suspects) > 1 else "One training image is"
        yield self.issue(
            f"{count} taken for another class with confidence, epoch after epoch: {listed(named)}.",
            f"Look at them; {named[0]} looks like {class_name(history, self._called[suspects[0]])}. Move those that "
            "are filed wrong.",
            severity="info",
            step=history.moment.step,
            files=files,
            evidence={
                "ids": suspects[:MOST],
                "looks_like": [class_name(history, self._called[number]) for number in suspects[:MOST]],
                "loss": [self._loss[number] for number in suspects[:MOST]],
                "epochs": [self._times[number] for number in suspects[:MOST]],
                "count": len(suspects),
            },
        )
