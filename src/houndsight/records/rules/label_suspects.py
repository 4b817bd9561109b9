"""Training images whose label looks wrong; a rule over the losses of single images."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.class_imbalance import class_name
from houndsight.records.rules.history import History
from houndsight.records.rules.moment import Samples
from houndsight.records.rules.rule import Rule, listed
from houndsight.spec import Finding

UNLIKELY, MOST, GOOD, LEAST = float(np.log(10.0)), 200, 0.6, 20


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
    hears = frozenset({"samples", "scalars", "confusion"})

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._times: dict[int, int] = {}
        self._loss: dict[int, float] = {}
        self._called: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._parts: list[Samples] = []
        self._seen: set[int] = set()

    def judge(self, history: History) -> Iterator[Finding]:
        """Gather what an epoch says; nothing is told before the end."""
        moment = history.moment
        if moment.mode == "valid":
            self._end_epoch()
        elif moment.mode == "train" and moment.samples is not None:
            if not self._seen.isdisjoint(moment.samples.ids.tolist()):
                self._end_epoch()  # an image comes again, and no validation lay between
            self._seen.update(moment.samples.ids.tolist())
            self._parts.append(moment.samples)
        yield from ()

    def _end_epoch(self) -> None:
        parts, self._parts = self._parts, []
        self._seen.clear()
        if sum(len(each.ids) for each in parts) < LEAST:
            return
        ids, losses, predictions = (
            np.concatenate(columns)
            for columns in zip(*((each.ids, each.losses, each.predictions) for each in parts), strict=True)
        )
        middle = float(np.median(losses))
        spread = 1.4826 * float(np.median(np.abs(losses - middle)))
        # An image that is recognised mostly has a loss below ln(2): its label has more than all other classes.
        good = float((losses < np.log(2.0)).mean()) > GOOD
        bad = np.isfinite(losses) & (losses > max(UNLIKELY, middle + 5 * spread)) & good
        self.looked = self.looked or good
        now = dict(zip(ids[bad].tolist(), predictions[bad].tolist(), strict=True))
        for number, loss in zip(ids[bad].tolist(), losses[bad].tolist(), strict=True):
            if self._before.get(number) == now[number]:
                self._times[number] = self._times.get(number, 1) + 1
                self._loss[number] = max(self._loss.get(number, 0.0), loss)
                self._called[number] = now[number]
        self._before = now

    def finish(self, history: History) -> Iterator[Finding]:
        """Name the images."""
        self._end_epoch()
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
