"""Images that reach the network black, constant or unscaled; a rule over the inputs of the first steps."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule
from houndsight.spec import Finding

LARGE, SMALL, STEPS = 8.0, 0.02, 3


class CheckInputImages(Rule):
    """The images do not reach the network as numbers around 0 of a size around 1.

    Mathematics, over the inputs of 3 saved steps: the deviation is below 1e-6 of the mean (constant images), |mean| or
    the deviation is above 8 (0 to 255 was not scaled), or the deviation is below 0.02 with a mean below 0.02 (scaled
    twice). Not asked of cached features. SageMaker's way: |mean| of a channel > `threshold_mean` after
    `threshold_samples` images.
    Source: LeCun et al. 1998 ("Efficient BackProp"); SageMaker Debugger's documentation.
    Severity: error for constant images, else warning. Repair: the normalisation to use.
    """

    name = "check_input_images"
    needs = "inputs"
    sagemaker = {"threshold_mean": 0.2, "threshold_samples": 500, "regex": ".*hybridsequential0_input_0", "channel": 1}

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._seen: list[tuple[float, float, float]] = []
        self._told = False

    def judge(self, history: History) -> Iterator[Finding]:
        """Gather the inputs of a few steps, then judge them together."""
        if self._told or history.moment.mode != "train" or history.facts.get("features"):
            return
        inputs = history.one("inputs")
        if not inputs.keys() >= {"mean", "std"}:
            return
        group = history.group("inputs/")
        channels = history.now(group, "mean")
        furthest = float(np.nanmax(np.abs(channels))) if np.isfinite(channels).any() else abs(inputs["mean"])
        self._seen.append((inputs["mean"], inputs["std"], furthest))
        batch = int(history.facts.get("batch_size", 32))
        needed = int(np.ceil(self.value("threshold_samples") / batch)) if self.compatible else STEPS
        if len(self._seen) < needed:
            return
        mean, deviation, furthest = np.mean(self._seen[-needed:], axis=0)
        self.looked = self._told = True
        trouble = _trouble(mean, deviation)
        if self.compatible:
            off = furthest > self.value("threshold_mean")
            trouble = f"A channel's mean is {furthest:.3g} off zero" if off else ""
        if trouble:
            yield self.issue(
                f"{trouble}: mean {mean:.3g}, deviation {deviation:.3g} in the first {needed} saved steps.",
                "Scale pixels to 0..1 (ToTensor, or images / 255), then Normalize(mean=[0.485, 0.456, 0.406], "
                "std=[0.229, 0.224, 0.225])."
                if deviation > 1e-6 * abs(mean)
                else "See that the loader reads the images: all pixels have one value.",
                severity="error" if deviation <= 1e-6 * abs(mean) else "warning",
                step=history.moment.step,
                evidence={"mean": mean, "std": deviation, "furthest_channel_mean": furthest},
            )


def _trouble(mean: float, deviation: float) -> str:
    if deviation <= 1e-6 * abs(mean):
        return "The images are constant"
    if abs(mean) > LARGE or deviation > LARGE:
        return "The pixels were not scaled"
    if deviation < SMALL and abs(mean) < SMALL:
        return "The pixels were scaled twice"
    return ""
