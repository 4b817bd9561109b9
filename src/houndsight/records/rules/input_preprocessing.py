"""Images that do not reach a pretrained network as it was trained; a rule over the inputs of the first steps."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule
from houndsight.records.rules.start import pretrained
from houndsight.spec import Finding

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
STEPS, SLACK = 3, 0.15


class InputPreprocessing(Rule):
    """A pretrained network is given images that are scaled in another way than those it was trained on.

    Mathematics: pixels from 0 to 1, normalised by the network's own mean and deviation, lie between (0 - mean) / std
    and (1 - mean) / std in every channel. Fires where in 3 saved steps the inputs of a channel lie between 0 and 1 (not
    normalised), between -1 and 1 where more is expected (normalised by 0.5), or beyond the bounds. A network counts as
    pretrained where the facts say it, or where its first weights have heavy tails; without its own preprocessing
    ImageNet's is taken. Source: 34 of 80 public projects forget it; torchvision's weights name theirs.
    Severity: warning. Repair: the Normalize to write.
    """

    name = "input_preprocessing"
    needs = "inputs of three channels to a pretrained network"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._low = np.full(3, np.inf)
        self._high = np.full(3, -np.inf)
        self._seen = 0
        self._pretrained: bool | None = None

    def judge(self, history: History) -> Iterator[Finding]:
        """Gather the ranges of a few steps, then judge them together."""
        if self._seen >= STEPS or history.moment.mode != "train" or history.facts.get("features"):
            return
        if self._pretrained is None:
            self._pretrained = pretrained(history)
        group = history.group("inputs/")
        low, high = history.now(group, "min"), history.now(group, "max")
        if len(group) != 3 or not np.isfinite(low).all() or not self._pretrained:
            return
        self._seen += 1
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        if self._seen < STEPS:
            return
        self.looked = True
        own: dict[str, Any] = history.facts.get("preprocess") or IMAGENET
        mean, deviation = np.array(own["mean"], float), np.array(own["std"], float)
        least, most = (0 - mean) / deviation, (1 - mean) / deviation
        trouble = _trouble(self._low, self._high, least, most)
        if trouble:
            yield self.issue(
                f"The network is pretrained, but {trouble}: its inputs reach from {self._low.min():.2f} to "
                f"{self._high.max():.2f}, and {least.min():.2f} to {most.max():.2f} is what it knows.",
                f"Normalize(mean={[float(f'{x:.3g}') for x in mean]}, std={[float(f'{x:.3g}') for x in deviation]}) "
                "behind ToTensor(), in training, validation and inference alike.",
                step=history.moment.step,
                evidence={"low": self._low, "high": self._high, "expected_low": least, "expected_high": most},
            )


def _trouble(low: np.ndarray, high: np.ndarray, least: np.ndarray, most: np.ndarray) -> str:
    if (high > most + SLACK * (most - least)).any() or (low < least - SLACK * (most - least)).any():
        return "the pixels are not scaled to 0..1 before they are normalised"
    shifted = (least < -0.5).all()  # a network that wants 0..1 is given 0..1
    if shifted and (low > -1e-3).all() and (high < 1 + 1e-3).all():
        return "the images are not normalised"
    wide = (least < -1.5).all() and (most > 1.5).all()
    if wide and (low > -1 - 1e-3).all() and (high < 1 + 1e-3).all() and (low < -0.9).any():
        return "the images are normalised to -1..1"
    return ""
