"""From the statistics of tensors to maps of layer by step: what the page shows of gradients, updates and zeros."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.records.facts import read_facts
from houndsight.records.tensors import TensorRecords
from houndsight.reports.watched import LayerMap, Row, TensorMaps

BUCKETS = 400
"""Most buckets of steps in a map."""
LAYERS = 80
"""Most layers in a map; above, biases and normalisation are left out, and then what lies in between."""
DIGITS = 4
"""Significant digits of a cell."""


def gather(folder: Path) -> TensorMaps | None:
    """The maps of the records in `folder`; None where no statistics of a training step are there."""
    records = TensorRecords(folder)
    names = records.names(mode="train")
    gradients, left_out = chosen([n for n in names if n.startswith("gradient/")], _kinds(read_facts(folder)))
    if not names:
        return None
    steps, norms = records.grid([f"gradient/{name}" for name in gradients], "l2")
    ratios = _ratios(records, gradients)
    zeros = records.grid([f"gradient/{name}" for name in gradients], "zeros")[1]
    inputs, _ = chosen([name for name in names if name.startswith("input/")], {})
    dead = records.grid([f"input/{name}" for name in inputs], "dead")[1]
    quantities = (
        ("gradient_norm", gradients, norms),
        ("update_ratio", gradients, ratios),
        ("gradient_zeros", gradients, zeros),
        ("dead_units", inputs, dead),
    )
    maps = [_map(name, layers, values) for name, layers, values in quantities]
    return TensorMaps(
        steps=tuple(int(each[-1]) for each in _buckets(steps)),
        saved=len(steps),
        tensors=len(names),
        left_out=left_out,
        maps=tuple(each for each in maps if each is not None),
    )


def chosen(names: Sequence[str], kinds: dict[str, str]) -> tuple[list[str], int]:
    """The layers of a map without their prefix, at most `LAYERS`, and how many are left out.

    Weight matrices come first, then normalisation and biases, which have other sizes and are left out where there are
    too many; of still too many, evenly spread ones are taken.
    """
    bare = [name.split("/", 1)[1] for name in names]
    weights = [name for name in bare if kinds.get(name, "weight") == "weight" and not name.endswith(".bias")]
    kept = weights + [name for name in bare if name not in set(weights)]
    if len(kept) > LAYERS:
        kept = weights
    if len(kept) > LAYERS:
        kept = [kept[at] for at in np.linspace(0, len(kept) - 1, LAYERS).round().astype(int).tolist()]
    return kept, len(bare) - len(kept)


def _kinds(facts: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("kind", "weight") for each in facts.get("parameters", [])}


def _ratios(records: TensorRecords, layers: Sequence[str]) -> NDArray[np.float32]:
    """|update| / |weight| by step and layer; NaN where the weight is zero, as a new bias is."""
    _, updates = records.grid([f"update/{name}" for name in layers], "l2")
    _, weights = records.grid([f"weight/{name}" for name in layers], "l2")
    with np.errstate(all="ignore"):
        return np.where(weights > 0, updates / weights, np.float32(np.nan))


def _buckets(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Equal counts of steps a bucket, as curves have them."""
    size = max(1, -(-len(values) // BUCKETS))
    return [values[begin : begin + size] for begin in range(0, len(values), size)]


def _map(name: str, layers: Sequence[str], values: NDArray[np.float32]) -> LayerMap | None:
    """`values` (steps, layers); None where nothing was taken."""
    if values.size == 0 or np.isnan(values).all():
        return None
    finite = np.isfinite(values)
    cells = np.array([_mean(part, known) for part, known in zip(_buckets(values), _buckets(finite), strict=True)]).T
    broken = np.array([np.isinf(part).any(axis=0) for part in _buckets(values)]).T
    recent = cells[:, -max(1, cells.shape[1] // 5) :]
    return LayerMap(
        name=name,
        layers=tuple(layers),
        cells=tuple(map(rounded, cells)),
        nonfinite=tuple((int(row), int(column)) for row, column in np.argwhere(broken)[:500]),
        last=rounded(np.array([_median(row) for row in recent])),
    )


def _median(row: NDArray[np.float64]) -> float:
    known = row[np.isfinite(row)]
    return float(np.median(known)) if len(known) else float("nan")


def _mean(part: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = known.sum(axis=0)
    sums = np.where(known, part, 0).sum(axis=0, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def rounded(values: NDArray[Any]) -> Row:
    """Numbers for a page: `DIGITS` significant digits, None for what is not finite."""
    return tuple(float(f"{each:.{DIGITS}g}") if isfinite(each) else None for each in values.tolist())
