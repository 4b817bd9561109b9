"""Maps of many rows over steps or time, one byte a cell, drawn by page.js: small for 80 layers in 400 buckets."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from houndsight.reports.numbers import number, percent, plural
from houndsight.reports.watched import LayerMap, MachineUse, Row, TensorMaps

CODES = 254
"""Values are told apart in so many steps; code 0 is nothing recorded, 255 not finite."""

TITLES = {
    "gradient_norm": ("Gradient norm", "Length of the gradient of each layer. Even colours down a column are healthy."),
    "update_ratio": (
        "Update over weight",
        "How far a step moves a weight. About 1/1000 is healthy: the middle colour.",
    ),
    "gradient_zeros": ("Zeros in gradients", "Share of a layer's gradient that is exactly zero."),
    "dead_units": ("Dead units", "Share of units in front of an activation that no image of the batch wakes."),
}
"""Title and meaning of each quantity of the layers."""

RATIO = (1e-5, 1e-1)
"""Ends of the scale of updates, with the healthy 1e-3 in its middle."""


@dataclass(frozen=True)
class Heat:
    """A map and what stands around it."""

    id: str
    """Its id on the page."""
    title: str
    """Its heading."""
    meaning: str
    """What it shows and what is good."""
    description: str
    """What is in it, for those who do not see it."""
    payload: dict[str, Any]
    """What page.js draws."""
    ends: tuple[str, str]
    """The ends of the scale in words."""
    ramp: Literal["along", "around"]
    """Colours from nothing to much, or around a healthy middle."""
    shape: str = "half"
    """wide or half."""


def draw(tensors: TensorMaps | None, machine: MachineUse | None) -> dict[str, Heat]:
    """The maps of a page by their id; one that is zero everywhere has none."""
    found = []
    if tensors is not None:
        found += [_layers(each, tensors.steps) for each in tensors.maps if any(map(any, each.cells))]
    if machine is not None and machine.busy:
        found.append(_busy(machine))
    return {each.id: each for each in found}


def _layers(of: LayerMap, steps: Sequence[int]) -> Heat:
    values = _array(of.cells)
    title, meaning = TITLES[of.name]
    known = values[np.isfinite(values) & (values > 0)]
    shares = of.name in ("gradient_zeros", "dead_units")
    logarithmic = not shares
    low, high = (0.0, 1.0) if shares else RATIO
    if of.name == "gradient_norm":
        low, high = (float(each) for each in np.quantile(known, (0.01, 0.99))) if len(known) else (1e-6, 1.0)
        high = max(high, low * 10)
    say = percent if shares else number
    last = sorted((each, name) for name, each in zip(of.layers, of.last, strict=True) if each is not None)
    said = f"{title} of {plural(len(of.layers), 'layer')} over {plural(len(steps), 'bucket')} of steps."
    if last:
        said += f" Near the end from {say(last[0][0])} in {last[0][1]} to {say(last[-1][0])} in {last[-1][1]}."
    codes = encode(values, low, high, logarithmic=logarithmic)
    for row, column in of.nonfinite:
        codes[row, column] = 255
    payload = _payload(of.layers, steps, codes, low, high, logarithmic=logarithmic) | {
        "axis": "Step",
        "shares": shares,
        "ramp": "around" if of.name == "update_ratio" else "along",
    }
    ramp: Literal["along", "around"] = "around" if of.name == "update_ratio" else "along"
    name = of.name.replace("_", "-")
    return Heat(
        f"map-{name}", title, meaning, said, payload, (_end(low, shares=shares), _end(high, shares=shares)), ramp
    )


def _end(value: float, *, shares: bool) -> str:
    return percent(value, 0) if shares else number(float(f"{value:.2g}"))


def _busy(machine: MachineUse) -> Heat:
    values = _array(tuple(machine.busy.values()))
    means = {
        name: float(np.nanmean(row)) if np.isfinite(row).any() else 0.0
        for name, row in zip(machine.busy, values, strict=True)
    }
    said = "Share of time in which each core was busy. " + ", ".join(
        f"{name} {percent(mean, 0)}" for name, mean in list(means.items())[:16]
    )
    codes = encode(values, 0.0, 1.0, logarithmic=False)
    payload = _payload(tuple(machine.busy), machine.time, codes, 0.0, 1.0, logarithmic=False)
    payload |= {"axis": "Seconds since the start", "shares": True, "ramp": "along"}
    title = "Cores and GPUs" if machine.gpus else "Cores"
    meaning = "How busy each was, by this training and by everybody else."
    return Heat("map-cores", title, meaning, said + ".", payload, (percent(0, 0), percent(1, 0)), "along", "wide")


def encode(values: NDArray[np.float64], low: float, high: float, *, logarithmic: bool) -> NDArray[np.uint8]:
    """(rows, columns) of codes: 0 for NaN, 1 to `CODES` from `low` to `high`; what lies outside takes the nearest."""
    with np.errstate(all="ignore"):
        if logarithmic:
            share = (np.log(np.maximum(values, low)) - np.log(low)) / (np.log(high) - np.log(low))
        else:
            share = (values - low) / (high - low)
        codes = 1 + np.rint((CODES - 1) * np.clip(share, 0, 1))
    return np.where(np.isfinite(values), codes, 0).astype(np.uint8)


def _payload(
    rows: Sequence[str],
    columns: Sequence[float],
    codes: NDArray[np.uint8],
    low: float,
    high: float,
    *,
    logarithmic: bool,
) -> dict[str, Any]:
    return {
        "rows": [each.removeprefix("backbone.") for each in rows],
        "columns": list(columns),
        "cells": base64.b64encode(codes.tobytes()).decode(),
        "low": low,
        "high": high,
        "log": logarithmic,
    }


def _array(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([[np.nan if each is None else each for each in row] for row in rows], float)
