"""Outputs that are no logits: behind ReLU, softmax or sigmoid; a rule over what the loss is given."""

from collections.abc import Iterator

import numpy as np

from houndsight.records.rules.history import History
from houndsight.records.rules.rule import Rule
from houndsight.records.rules.start import last_layer
from houndsight.spec import Finding

STEPS = 4


class HeadOutputs(Rule):
    """The cross-entropy is given outputs that are no raw logits, so that it cannot fall as far as it should.

    Mathematics, at 4 saved steps in a row, on what the loss is given: never below 0, with exact zeros among them, is
    ReLU (a class whose output is 0 gets no gradient and may stay there: public projects got 40 % for 80 %); between 0
    and 1 with a mean of 1 / classes is softmax (the loss cannot fall below ln(e + classes - 1) - 1); between 0 and 1
    with another mean is a sigmoid. NLLLoss without log_softmax is told from values above 0, at 2 steps.
    Source: the definition of cross_entropy; 4 of 80 public projects. Severity: error. Repair: the layer to take away.
    """

    name = "head_outputs"
    needs = "outputs of the network"

    def __init__(self, given: dict[str, str] | None = None) -> None:
        super().__init__(given)
        self._held = {"relu": 0, "softmax": 0, "sigmoid": 0, "negative": 0}

    def judge(self, history: History) -> Iterator[Finding]:
        """Look at the newest saved step of training."""
        if history.moment.mode != "train":
            return
        name = "logits" if history.one("logits") else "outputs"
        outputs = history.one(name)
        kind = str(history.facts.get("loss", "cross_entropy")).lower()
        if not outputs.keys() >= {"mean", "min", "max"} or not any(word in kind for word in ("cross", "nll")):
            return
        if "binary" in kind:
            return
        self.looked = True
        for squashed in self._held:
            self._held[squashed] = self._held[squashed] + 1 if _is(squashed, outputs, history, kind) else 0
            if self._held[squashed] == (2 if squashed == "negative" else STEPS):
                yield self._issue(history, squashed, outputs)

    def _issue(self, history: History, squashed: str, outputs: dict[str, float]) -> Finding:
        layer, of = last_layer(history)
        own = of in {"relu": ("ReLU", "ReLU6"), "softmax": ("Softmax",), "sigmoid": ("Sigmoid",)}.get(squashed, ())
        place = f"{layer} ({of})" if own else "the last operation" + (f", behind {layer} ({of})" if layer else "")
        named = f" ({layer})" if own else ""
        floor = np.log(np.e + history.classes - 1) - 1 if history.classes else float("nan")
        said = {
            "relu": f"The logits go through a ReLU, in {place}: no output is below 0, "
            f"and {outputs.get('zeros', 0):.0%} are 0. A class whose output is 0 for every image learns no more.",
            "softmax": f"The outputs are probabilities already, from {place}, and cross_entropy takes their softmax "
            f"again: the loss cannot fall below {floor:.3g}, and gradients are small.",
            "sigmoid": f"The outputs lie between 0 and 1, behind a sigmoid in {place}, and cross_entropy takes them "
            "for logits: no class can be far ahead.",
            "negative": f"nll_loss is given {outputs['max']:.3g} where it expects logarithms of probabilities, which "
            "are never above 0: the loss falls without end and says nothing.",
        }[squashed]
        repair = {
            "relu": f"Remove the ReLU from the end of the network{named}: the last layer gives raw logits.",
            "softmax": f"Remove the softmax{named}: cross_entropy wants raw logits. Take it at inference only.",
            "sigmoid": f"Remove the sigmoid{named}: cross_entropy wants raw logits.",
            "negative": "Use nn.CrossEntropyLoss on raw logits, or put nn.LogSoftmax(dim=1) at the end.",
        }[squashed]
        return self.issue(
            f"{said} Seen up to step {history.moment.step}.",
            repair,
            severity="error",
            step=history.moment.step,
            evidence={"layer": layer, "type": of, **{key: outputs[key] for key in ("min", "max", "mean")}},
        )


def _is(squashed: str, outputs: dict[str, float], history: History, kind: str) -> bool:
    least, most, mean = outputs["min"], outputs["max"], outputs["mean"]
    classes = history.classes
    inside = least >= 0 and most <= 1 and most > least
    even = classes is not None and abs(mean * classes - 1) < 1e-3
    if squashed == "relu":
        return least == 0 < most and 0.01 < outputs.get("zeros", 0.0) < 1 and not (inside and even)
    if squashed == "softmax":
        return inside and even
    if squashed == "sigmoid":
        return inside and classes is not None and not even and least > 0
    return "nll" in kind and most > 1e-6
