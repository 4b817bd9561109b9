"""Moments made by hand, and what the rules say to them; no training and no torch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from houndsight.records.rules.engine import Engine
from houndsight.records.rules.moment import Moment
from houndsight.records.tensors import STATISTICS
from houndsight.spec import Finding

CLASSES = 10


def facts(**more: Any) -> dict[str, Any]:
    """A network of two layers and an activation, in one optimizer."""
    return {
        "num_classes": CLASSES,
        "batch_size": 32,
        "lr": 0.1,
        "parameters": [parameter("body.weight"), parameter("body.bias"), parameter("fc.weight", part="head")],
        "modules": [
            {"name": "body", "type": "Conv2d"},
            {"name": "relu", "type": "ReLU"},
            {"name": "fc", "type": "Linear"},
        ],
        **more,
    }


def parameter(name: str, **more: Any) -> dict[str, Any]:
    """One entry of the facts' parameters."""
    kind = "bias" if name.endswith("bias") else "weight"
    shape = [64] if kind == "bias" else [64, 576]
    return {
        "name": name, "shape": shape, "trainable": True, "in_optimizer": True, "part": "backbone", "kind": kind,
    } | more  # fmt: skip


def tensors(step: int, rows: Mapping[str, Mapping[str, float]], mode: str = "train", **scalars: float) -> Moment:
    """A moment with the given statistics; those that are not given were not taken."""
    values = np.full((len(rows), len(STATISTICS)), np.nan, np.float32)
    for at, statistics in enumerate(rows.values()):
        for name, value in statistics.items():
            values[at, STATISTICS.index(name)] = value
    return Moment(step, mode, scalars=scalars, names=tuple(rows), values=values)


def losses(values: Sequence[float], name: str = "loss", mode: str = "train") -> list[Moment]:
    """One moment a value."""
    return [Moment(step, mode, scalars={name: value}) for step, value in enumerate(values)]


def validations(values: Sequence[Mapping[str, Any]], every: int = 10) -> list[Moment]:
    """Epochs of training with a validation after each: keys of `values` are train_/valid_ loss, accuracy, confusion."""
    found = []
    for number, value in enumerate(values, start=1):
        for mode in ("train", "valid"):
            told = {key.removeprefix(f"{mode}_"): each for key, each in value.items() if key.startswith(mode)}
            counts = told.pop("confusion", None)
            if mode == "train":
                told = {"epoch_loss" if key == "loss" else key: each for key, each in told.items()}
            found.append(Moment(number * every - 1, mode, scalars=told, confusion=counts))
    return found


def said(
    rule: str, moments: Iterable[Moment], known: Mapping[str, Any] | None = None, asked: str = ""
) -> list[Finding]:
    """What one rule finds in these moments; empty where it finds nothing."""
    return [each for each in standing(rule, moments, known, asked) if each.status == "IssuesFound"]


def standing(
    rule: str, moments: Iterable[Moment], known: Mapping[str, Any] | None = None, asked: str = ""
) -> list[Finding]:
    """What one rule says at the end, whatever its status."""
    engine = Engine(facts() if known is None else known, [f"{rule}:{asked}" if asked else rule], strict=True)
    for moment in moments:
        engine.feed(moment)
    return [each for each in engine.close() if each.rule == rule]
