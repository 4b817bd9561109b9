"""Two jobs side by side: what was set differently, which is better beyond chance, and where they differ in between."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight import metrics
from houndsight.errors import RequestError
from houndsight.folders import JobFolder
from houndsight.reports import series, summary
from houndsight.reports.page import Curve, Page
from houndsight.results import Measure
from houndsight.spec import Frozen, Index

FORMAT_VERSION = 1
SPEEDS = (
    ("wall", "Whole run", "s"),
    ("median_step", "Median step", "s"),
    ("images_per_second", "Images a second", ""),
)
"""Numbers of speed: name, words, unit."""


class Differing(Frozen):
    """A setting in which two jobs differ."""

    name: str
    """Field of the spec."""
    a: Any
    """Its value in the first job."""
    b: Any
    """Its value in the second job."""
    meaning: str
    """What it means."""


class Paired(Frozen):
    """Two models on the same images of one split."""

    split: str
    """Which split."""
    images: int
    """Images that both were measured on."""
    a: Measure
    """Accuracy of the first on them."""
    b: Measure
    """Accuracy of the second on them."""
    difference: Measure
    """Accuracy of the second minus that of the first."""
    only_a: int
    """Images that the first alone has right."""
    only_b: int
    """Images that the second alone has right."""
    p_value: float
    """McNemar's test, two-sided mid-p: how often chance alone would make as large a difference."""


class Number(Frozen):
    """One number of each job; None where it was not measured."""

    name: str
    """What it is."""
    label: str
    """The same in words."""
    a: float | None
    """Of the first job."""
    b: float | None
    """Of the second job."""
    ratio: float | None
    """Second over first; None where one of them is missing or zero."""


class Both(Frozen):
    """One scalar of both jobs in one mode."""

    name: str
    """Its name."""
    mode: str
    """train, valid, ..."""
    a: Curve
    """Of the first job."""
    b: Curve
    """Of the second job."""


class Comparison(Frozen):
    """The whole comparison."""

    format: int = FORMAT_VERSION
    """Layout of this document."""
    a: str
    """Name of the first job."""
    b: str
    """Name of the second job."""
    trained: tuple[str, str]
    """What each did, in one sentence."""
    settings: tuple[Differing, ...]
    """Settings that differ."""
    same_data: bool | None
    """Whether both saw the same images in the same splits; None where that is not known."""
    paired: tuple[Paired, ...]
    """Test first; only splits with images in common."""
    metrics: dict[str, tuple[Measure | None, Measure | None]]
    """Of the shown split of each job by itself."""
    curves: tuple[Both, ...]
    """Scalars that both recorded."""
    speed: tuple[Number, ...]
    """How fast each was."""
    phases: tuple[Number, ...]
    """Seconds of each kind of work."""
    layers: dict[str, tuple[Number, ...]]
    """`gradient_norm` and `update_ratio` of every layer that both have, near the end of the run."""
    rules: dict[str, tuple[str, ...]]
    """Rules that fired in `a` alone, in `b` alone and in `both`."""
    notes: tuple[str, ...] = ()
    """What could not be read."""


def gather(first: JobFolder, second: JobFolder) -> Comparison:
    """The comparison of two jobs out of their folders alone."""
    a, b = summary.gather(first), summary.gather(second)
    notes = [f"{page.job}: {note}" for page in (a, b) for note in page.notes]
    prints = [page.data.fingerprint if page.data else None for page in (a, b)]
    return Comparison(
        a=first.name,
        b=second.name,
        trained=(a.overview.trained, b.overview.trained),
        settings=_settings(a, b),
        same_data=None if None in prints else prints[0] == prints[1],
        paired=tuple(each for split in ("test", "valid") if (each := paired(first, second, split)) is not None),
        metrics=_metrics(a, b),
        curves=_curves(a.curves, b.curves),
        speed=_speed(a, b),
        phases=_phases(a, b),
        layers={name: _layers(a, b, name) for name in ("gradient_norm", "update_ratio")},
        rules=_rules(a, b),
        notes=tuple(notes),
    )


def number(name: str, label: str, a: float | None, b: float | None) -> Number:
    """One row of a table of two."""
    return Number(name=name, label=label, a=a, b=b, ratio=float(f"{b / a:.4g}") if a and b is not None else None)


def _settings(a: Page, b: Page) -> tuple[Differing, ...]:
    rows = [{each.name: each for each in page.run.settings} if page.run else {} for page in (a, b)]
    names = dict.fromkeys([*rows[0], *rows[1]])
    found = []
    for name in names:
        one, other = rows[0].get(name), rows[1].get(name)
        values = [each.value if each else None for each in (one, other)]
        if values[0] != values[1]:
            known = one or other
            found.append(Differing(name=name, a=values[0], b=values[1], meaning=known.meaning if known else ""))
    return tuple(found)


def paired(first: JobFolder, second: JobFolder, split: str) -> Paired | None:
    """Both on the images of the split that both were measured on; None where there are none."""
    one, other = _right(first, split), _right(second, split)
    common = [path for path in one if path in other]
    if not common:
        return None
    a, b = (np.array([right[path] for path in common], bool) for right in (one, other))
    test = metrics.mcnemar(b, a)
    return Paired(
        split=split,
        images=len(common),
        a=metrics.wilson(int(a.sum()), len(a)),
        b=metrics.wilson(int(b.sum()), len(b)),
        difference=metrics.paired_difference(b, a),
        only_a=test.only_b,
        only_b=test.only_a,
        p_value=test.p_value,
    )


def _right(job: JobFolder, split: str) -> dict[str, bool]:
    """By path, whether an image of the split was recognised; empty where that is not known."""
    path = job.evaluation / f"{split}.npz"
    if not path.is_file() or not job.index.is_file():
        return {}
    try:
        index = Index.read(job.index)
        with np.load(path, allow_pickle=False) as held:
            right: NDArray[np.bool_] = held["logits"].argmax(axis=1) == held["labels"]
    except (OSError, ValueError, KeyError, RequestError):
        return {}  # torn, or of a newer layout: its page says so
    paths = next((each.paths for name, each in index.splits.items() if name == split), ())
    return dict(zip(paths, right.tolist(), strict=True)) if len(paths) == len(right) else {}


def _metrics(a: Page, b: Page) -> dict[str, tuple[Measure | None, Measure | None]]:
    found = [page.results[0].metrics if page.results else {} for page in (a, b)]
    return {name: (found[0].get(name), found[1].get(name)) for name in dict.fromkeys([*found[0], *found[1]])}


def _curves(a: Sequence[Curve], b: Sequence[Curve]) -> tuple[Both, ...]:
    other = {(each.name, each.mode): each for each in b}
    return tuple(
        Both(name=each.name, mode=each.mode, a=each, b=other[each.name, each.mode])
        for each in a
        if (each.name, each.mode) in other
    )


def _speed(a: Page, b: Page) -> tuple[Number, ...]:
    def of(page: Page) -> dict[str, float | None]:
        speed = page.speed
        return {
            "wall": page.time.wall if page.time else None,
            "median_step": speed.seconds.get("p50") if speed else None,
            "images_per_second": speed.images_per_second if speed else None,
        }

    one, other = of(a), of(b)
    rows = [number(name, label, one[name], other[name]) for name, label, _ in SPEEDS]
    return tuple(each for each in rows if each.a is not None or each.b is not None)


def _phases(a: Page, b: Page) -> tuple[Number, ...]:
    shares = [{each.kind: each for each in page.time.shares} if page.time else {} for page in (a, b)]
    rows = []
    for kind in dict.fromkeys([*shares[0], *shares[1]]):
        one, other = shares[0].get(kind), shares[1].get(kind)
        rows.append(number(kind, series.label(kind), one.seconds if one else None, other.seconds if other else None))
    return tuple(rows)


def _layers(a: Page, b: Page, name: str) -> tuple[Number, ...]:
    found: list[dict[str, float | None]] = []
    for page in (a, b):
        maps = page.tensors.maps if page.tensors else ()
        of = next((each for each in maps if each.name == name), None)
        found.append(dict(zip(of.layers, of.last, strict=True)) if of else {})
    return tuple(number(layer, layer, found[0][layer], found[1][layer]) for layer in found[0] if layer in found[1])


def _rules(a: Page, b: Page) -> dict[str, tuple[str, ...]]:
    fired = [{each.rule for each in page.findings if each.status == "IssuesFound"} for page in (a, b)]
    return {
        "a": tuple(sorted(fired[0] - fired[1])),
        "b": tuple(sorted(fired[1] - fired[0])),
        "both": tuple(sorted(fired[0] & fired[1])),
    }


def twin(page: Path) -> Path:
    """The JSON twin of a comparison's page."""
    return page.with_suffix(".json")
