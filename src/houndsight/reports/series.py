"""From records to what a page can show: curves in at most 400 buckets, and time shares that sum to the wall time."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from houndsight.records.schema import Scalar, Span
from houndsight.reports.page import Curve, Point, Share, Slice, TimeUse

BUCKETS = 400
"""Most points of one curve."""
SLICES = 60
"""Most pieces of the timeline."""
REST = "rest"
"""The kind of time that lies outside all spans."""
PAUSE = 60.0
"""Seconds without any span after which a resumed job is taken to have been away rather than slow."""

LABELS = {
    "data": "Waiting for images",
    "data_wait": "Waiting for images",
    "host_to_device": "Copying to the device",
    "copy": "Copying to the device",
    "forward": "Forward pass",
    "backward": "Backward pass",
    "optimizer": "Optimizer",
    "debugger": "Debugger",
    "checkpoint": "Writing checkpoints",
    "valid": "Validation",
    "validation": "Validation",
    "evaluation": "Evaluation",
    "evaluate": "Evaluation",
    "build": "Building the network",
    "check": "Checking the data",
    "scan": "Listing files",
    "decode": "Decoding images",
    "features": "Computing features",
    "train": "Training",
    "fit": "The loop itself",
    "step": "Step, other",
    "epoch": "Epoch, other",
    "calibrate": "Calibration",
    "save": "Packing the model",
    "pictures": "Pictures for this page",
    "artifact": "Packing the model",
    "gc": "Python's garbage collector",
    "sync": "Waiting for the device",
    "profiler": "Profiler",
    "window": "Window of torch.profiler",
    "worker": "Data workers",
    REST: "Everything else",
}
"""The kinds of spans in words; others appear under their own name."""

_HIGHER_IS_BETTER = ("accuracy", "acc", "top1", "top5", "f1", "auc", "precision", "recall")
_LOWER_IS_BETTER = ("loss", "error", "perplexity", "mae", "mse", "rmse")
_FIRST = ("loss", "accuracy", "lr")


def label(kind: str) -> str:
    """The kind of a span in words."""
    return LABELS.get(kind, kind.replace("_", " ").replace(".", " ").strip() or kind)


def significant(value: float) -> float:
    """`value` to six significant digits: enough for a page, and the same in every version of every library."""
    return float(f"{value:.6g}")


def curves(scalars: Iterable[Scalar]) -> tuple[Curve, ...]:
    """One curve a (name, mode): loss, accuracy and learning rate first, then the others by name; train before valid.

    A step that was recorded twice (a job that died and went on from its last checkpoint) counts once, with its last
    value.
    """
    grouped: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for each in scalars:
        grouped[each.name, each.mode][each.step] = each.value

    def place(key: tuple[str, str]) -> tuple[int, str, bool, str]:
        name, mode = key
        return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name, mode != "train", mode)

    return tuple(_curve(name, mode, grouped[name, mode]) for name, mode in sorted(grouped, key=place))


def _curve(name: str, mode: str, values: dict[int, float]) -> Curve:
    steps = sorted(values)
    finite = [step for step in steps if math.isfinite(values[step])]
    broken = [step for step in steps if not math.isfinite(values[step])]
    best = _best(name, finite, values) if mode != "train" else None
    return Curve(
        name=name,
        mode=mode,
        points=_bucket(steps, values),
        count=len(steps),
        first=significant(values[finite[0]]) if finite else None,
        last=significant(values[finite[-1]]) if finite else None,
        best=None if best is None else significant(values[best]),
        best_step=best,
        nonfinite=len(broken),
        nonfinite_step=broken[0] if broken else None,
    )


def _best(name: str, finite: Sequence[int], values: dict[int, float]) -> int | None:
    words = re.split(r"[^a-z0-9]+", name.casefold())
    if not finite:
        return None
    if any(word in _HIGHER_IS_BETTER for word in words):
        return max(finite, key=lambda step: (values[step], -step))
    if any(word in _LOWER_IS_BETTER for word in words):
        return min(finite, key=lambda step: (values[step], step))
    return None


def _bucket(steps: Sequence[int], values: dict[int, float]) -> tuple[Point, ...]:
    """Equal counts of values a bucket, so that the first steps are not crowded out by the later ones."""
    size = max(1, math.ceil(len(steps) / BUCKETS))
    points = []
    for begin in range(0, len(steps), size):
        chunk = steps[begin : begin + size]
        finite = [values[step] for step in chunk if math.isfinite(values[step])]
        points.append(
            Point(
                step=chunk[-1],
                value=significant(math.fsum(finite) / len(finite)) if finite else None,
                low=significant(min(finite)) if finite else None,
                high=significant(max(finite)) if finite else None,
                count=len(chunk),
            )
        )
    return tuple(points)


def time_use(spans: Iterable[Span]) -> TimeUse | None:
    """Where the time went; None without spans.

    A span inside another takes its time away from the outer one, and the time outside all spans is `rest`, so that
    the shares sum to 1 whatever was recorded.
    """
    pieces, durations, wall, paused = _pieces(sorted((each.start, -each.seconds, each.name) for each in spans))
    if wall <= 0:
        return None
    seconds: dict[str, float] = defaultdict(float)
    for kind, begin, end in pieces:
        seconds[kind] += end - begin
    shares = [_share(kind, spent, wall, durations.get(kind, [])) for kind, spent in seconds.items()]
    return TimeUse(
        wall=significant(wall),
        paused=significant(paused),
        shares=tuple(sorted(shares, key=lambda each: (-each.seconds, each.kind))),
        slices=_slices(pieces, wall),
    )


def _share(kind: str, spent: float, wall: float, durations: list[float]) -> Share:
    durations = sorted(durations)
    return Share(
        kind=kind,
        label=label(kind),
        seconds=significant(spent),
        share=significant(spent / wall),
        count=len(durations),
        median=significant(median(durations)) if durations else None,
        p95=significant(durations[min(len(durations) - 1, int(0.95 * len(durations)))]) if durations else None,
    )


def _pieces(
    ordered: Sequence[tuple[float, float, str]],
) -> tuple[list[tuple[str, float, float]], dict[str, list[float]], float, float]:
    """Cut the run into pieces (kind, begin, end) that follow each other without gap or overlap, from 0 on.

    Returns the pieces, the seconds of every span by kind, the wall time, and the seconds of pauses left out of it.
    """
    pieces: list[tuple[str, float, float]] = []
    durations: dict[str, list[float]] = defaultdict(list)
    open_spans: list[tuple[str, float]] = []
    origin = now = ordered[0][0] if ordered else 0.0

    paused = 0.0

    def advance(kind: str, until: float) -> None:
        nonlocal now
        if until > now:
            pieces.append((kind, now - origin, until - origin))
            now = until

    for start, minus_seconds, kind in ordered:
        while open_spans and open_spans[-1][1] <= start:
            advance(*open_spans.pop())
        if not open_spans and start - now > PAUSE:
            paused += start - now
            origin += start - now
            now = start
        advance(open_spans[-1][0] if open_spans else REST, start)
        open_spans.append((kind, start - minus_seconds))
        durations[kind].append(-minus_seconds)
    while open_spans:
        advance(*open_spans.pop())
    return pieces, durations, now - origin, paused


def _slices(pieces: Sequence[tuple[str, float, float]], wall: float) -> tuple[Slice, ...]:
    count = max(1, min(SLICES, len(pieces) // 4))
    width = wall / count
    spent: list[dict[str, float]] = [defaultdict(float) for _ in range(count)]
    for kind, begin, end in pieces:
        first, last = min(int(begin / width), count - 1), min(int(end / width), count - 1)
        for which in range(first, last + 1):
            inside = min(end, (which + 1) * width) - max(begin, which * width)
            spent[which][kind] += max(0.0, inside)
    return tuple(
        Slice(
            start=significant(which * width),
            end=significant((which + 1) * width),
            shares={kind: significant(part / width) for kind, part in sorted(each.items()) if part > 0},
        )
        for which, each in enumerate(spent)
    )
