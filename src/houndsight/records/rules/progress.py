"""Whether the training loss goes down, said with an interval; several rules ask this before they speak."""

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from houndsight.records.rules.history import History
from houndsight.records.rules.numbers import blocks, difference

LEAST = 12
LEARNT = 0.3  # of ln(C): a loss below it belongs to a network that knows its classes, and need not fall further


@dataclass(frozen=True, slots=True)
class Progress:
    """The training loss of the first third of the steps so far against the last third."""

    steps: int
    """How many steps it rests on."""
    first: float
    """Mean loss of the first third."""
    last: float
    """Mean loss of the last third."""
    low: float
    """Lower end of the 95 % interval of (last - first) / |first|."""
    high: float
    """Upper end of it."""
    learnt: bool
    """Whether the loss is so low that it need not fall further."""
    blind: bool = False
    """Whether it is still that of guessing, after 60 steps."""

    @property
    def falls(self) -> bool:
        """Whether the loss has certainly fallen."""
        return self.high < 0

    @property
    def stuck(self) -> bool:
        """Whether it has certainly not fallen by 2 %, and is not low."""
        return self.low > -0.02 and not self.learnt

    @property
    def rises(self) -> bool:
        """Whether it has certainly risen by 5 %: a rule looks at it again and again, so the interval is 99.9 %."""
        middle = (self.low + self.high) / 2
        return middle - 1.7 * (middle - self.low) > 0.05


def losses(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps (n,) and training losses (n,) so far: plain ones where every step has one or the loss is a sum."""
    steps, every = history.scalar("loss")
    saved, plain = history.scalar("plain_loss")
    summed = history.facts.get("reduction") == "sum"
    return (saved, plain) if len(plain) and (summed or len(plain) >= 0.8 * len(every)) else (steps, every)


def progress(history: History) -> Progress | None:
    """How the training loss moved up to the judged step; None before 12 losses were recorded."""
    if "progress" not in history.memo:
        series = losses(history)[1]
        history.memo["progress"] = None if len(series) < LEAST else judged(series, history.classes)
    found: Progress | None = history.memo["progress"]
    return found


def judged(series: NDArray[np.float64], classes: int | None) -> Progress:
    """The first third of the losses (n,) against the last third, Welch's interval; long runs in 300 blocks."""
    taken = blocks(series[np.isfinite(series)], 300)
    third = max(1, len(taken) // 3)
    first, last = taken[:third], taken[-third:]
    if not len(taken):
        return Progress(len(series), np.nan, np.nan, -np.inf, np.inf, learnt=False)
    _, low, high = difference(first, last)
    size = max(abs(float(first.mean())), 1e-12)
    learnt = classes is not None and float(last.mean()) < LEARNT * log(max(classes, 2))
    blind = classes is not None and len(series) >= 60 and float(last.mean()) > 0.9 * log(max(classes, 2))
    return Progress(len(series), float(first.mean()), float(last.mean()), low / size, high / size, learnt, blind)


def rate(history: History) -> float | None:
    """The highest learning rate so far."""
    rates = history.scalar("lr")[1]
    if len(rates):
        return float(rates.max())
    given = history.facts.get("lr")
    return float(given) if given else None


def rounded(value: float) -> float:
    """A learning rate as people write it: 1, 2 or 5 times a power of ten, the next one below, give or take 1 %."""
    if value <= 0:
        return value
    power = 10.0 ** np.floor(np.log10(1.01 * value))
    lead = value / power
    return float(f"{(5 if lead > 4.95 else 2 if lead > 1.98 else 1) * power:.1g}")


def lower_rate(history: History, factor: float) -> str:
    """What to type for a learning rate that is `factor` times lower."""
    now = rate(history)
    if now is None:
        return f"Lower the learning rate {factor:.0f} times."
    return f"Lower --lr from {now:.3g} to {rounded(now / factor):.3g}."


def raise_rate(history: History, factor: float) -> str:
    """What to type for a learning rate that is `factor` times higher."""
    now = rate(history)
    if now is None:
        return f"Raise the learning rate {factor:.0f} times."
    return f"Raise --lr from {now:.3g} to {rounded(now * factor):.3g}."
