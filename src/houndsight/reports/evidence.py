"""The series behind a finding: which curve shows what a rule saw, cut down to a line as small as a word."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from houndsight.records.tensors import TensorRecords
from houndsight.reports.page import Curve
from houndsight.reports.tensors import rounded
from houndsight.reports.watched import Line
from houndsight.spec import Finding

POINTS = 120
"""Most points of one line."""
MOST = 30
"""Most findings that get a line."""

SCALARS = {
    "class_never_predicted": ("accuracy", "valid"),
    "forgetting": ("accuracy", "train"),
    "initial_loss": ("loss", "train"),
    "integer_metrics": ("accuracy", "valid"),
    "leakage": ("accuracy", "valid"),
    "loss_not_decreasing": ("loss", "train"),
    "loss_reduction": ("loss", "train"),
    "loss_scale": ("loss", "train"),
    "nonfinite_loss": ("loss", "train"),
    "nonfinite_validation": ("loss", "valid"),
    "overfit": ("loss", "valid"),
    "overtraining": ("loss", "valid"),
    "stalled_training": ("loss", "train"),
    "train_eval_gap": ("accuracy", "valid"),
    "validation_at_chance": ("accuracy", "valid"),
}
"""Rule -> the scalar and the mode that it looks at."""

TENSORS = {
    "all_zero": ("", "zeros", "share of zeros"),
    "dead_relu": ("input/", "dead", "share of dead units"),
    "exploding_tensor": ("gradient/", "l2", "gradient norm"),
    "poor_weight_initialization": ("input/", "std", "spread of the inputs"),
    "saturated_activation": ("input/", "saturated", "share of saturated values"),
    "tensor_variance": ("weight/", "std", "spread of the weights"),
    "unchanged_tensor": ("update/", "l2", "size of the update"),
    "vanishing_gradient": ("gradient/", "l2", "gradient norm"),
}
"""Rule -> prefix and statistic of the tensor that it names, and both in words."""

RATIOS = frozenset({"weight_update_ratio", "update_balance", "weight_decay"})
"""Rules that look at the size of the update over that of the weight."""


def gather(findings: Sequence[Finding], curves: Sequence[Curve], folder: Path) -> tuple[Line, ...]:
    """A line for each finding that a recorded series can show."""
    records = TensorRecords(folder)
    issues = [each for each in findings if each.status == "IssuesFound"][:MOST]
    found = [_line(each, curves, records) for each in issues]
    return tuple(each for each in found if each is not None and sum(v is not None for v in each.values) > 1)


def _line(finding: Finding, curves: Sequence[Curve], records: TensorRecords) -> Line | None:
    rule = finding.rule
    if rule in SCALARS:
        name, mode = SCALARS[rule]
        curve = next((each for each in curves if (each.name, each.mode) == (name, mode)), None)
        if curve is None:
            return None
        steps = np.array([point.step for point in curve.points], np.int64)
        values = np.array([np.nan if point.value is None else point.value for point in curve.points], float)
        return _thinned(finding, f"{'validation' if mode == 'valid' else 'training'} {name}", steps, values)
    if rule in TENSORS:
        prefix, statistic, words = TENSORS[rule]
        tensor = _named(finding)
        if tensor is None:
            return None
        steps, values = records.curve(prefix + tensor.removeprefix(prefix), statistic)
        return _thinned(finding, f"{words} of {tensor.removeprefix(prefix)}", steps, values)
    if rule in RATIOS:
        layers = records.names(r"^update/.*weight$", "train")
        steps, updates = records.grid(layers, "l2")
        _, weights = records.grid([each.replace("update/", "weight/", 1) for each in layers], "l2")
        with np.errstate(all="ignore"):
            ratios = np.where((weights > 0) & np.isfinite(updates), updates / weights, np.nan)
            known = np.isfinite(ratios).any(axis=1) if ratios.size else np.zeros(len(steps), bool)
            middle = np.array([np.nanmedian(row) for row in ratios[known]])
        return _thinned(finding, "update over weight, median layer", steps[known], middle)
    return None


def _named(finding: Finding) -> str | None:
    """The first tensor, layer or parameter that the finding names."""
    for key in ("layers", "tensors", "parameters", "layer"):
        given = finding.evidence.get(key)
        if isinstance(given, str) and given:
            return given
        if isinstance(given, list | tuple) and given:
            return str(given[0])
    return None


def _thinned(finding: Finding, label: str, steps: NDArray[np.int64], values: NDArray[np.floating]) -> Line:
    """At most `POINTS` points: of each bucket the value furthest from the median, so that no peak is lost."""
    size = max(1, -(-len(steps) // POINTS))
    usual = float(np.median(values[np.isfinite(values)])) if np.isfinite(values).any() else 0.0
    kept = []
    for begin in range(0, len(steps), size):
        part = np.abs(values[begin : begin + size] - usual)
        kept.append(begin + int(np.argmax(np.where(np.isfinite(part), part, -1.0))))
    return Line(
        rule=finding.rule,
        step=finding.step,
        label=label,
        steps=tuple(int(steps[at]) for at in kept),
        values=rounded(values[kept]),
    )
