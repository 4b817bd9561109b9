"""Which trials are worth going on with: the rungs of asha and hyperband, and the median rule.

Asynchronous successive halving (Li et al., MLSys 2020): a trial pauses at a rung, and goes on to the next when it is
among the best 1/eta of those that reached it; nobody waits for the others. Hyperband (Li et al., JMLR 2018) lets some
trials begin at a higher rung, against the case that early epochs say nothing. The median rule is that of Google Vizier
(Golovin et al., KDD 2017).
"""

import math
from collections.abc import Sequence
from statistics import median

from houndsight.tuning.events import Trial
from houndsight.tuning.spec import TuningSpec

PEERS = 4
"""Trials that must have come so far before the median says anything."""
WARM_UP = 1
"""Epochs, or numbers of a script, before which no trial is stopped."""


def rungs(spec: TuningSpec, epochs: int, bracket: int = 0) -> list[int]:
    """Epochs after which a trial of so many epochs pauses, without its end."""
    found, at = [], first(spec, epochs)
    while at < epochs:
        found.append(at)
        at *= spec.reduction
    return found[bracket:]


def first(spec: TuningSpec, epochs: int) -> int:
    """Epochs of the first rung."""
    return spec.first_rung or max(1, math.ceil(epochs / 3))


def brackets(spec: TuningSpec, epochs: int) -> int:
    """How many brackets there are: one for asha, as many as rungs for hyperband, two at most beyond the first."""
    return 1 if spec.strategy == "asha" else min(3, len(rungs(spec, epochs)) + 1)


def bracket_of(spec: TuningSpec, number: int, epochs: int) -> int:
    """The bracket of the `number`-th trial: of eta^s trials in turn one begins s rungs higher."""
    count = brackets(spec, epochs)
    if spec.strategy != "hyperband" or count == 1:
        return 0
    for bracket in range(count - 1, 0, -1):
        if (number + 1) % (spec.reduction**bracket + bracket) == 0:
            return bracket
    return 0


def promoted(spec: TuningSpec, trials: Sequence[Trial], closing: bool) -> Trial | None:
    """The paused trial that is to go on: the best of those in the upper 1/eta of the highest rung that has one.

    While new trials still come half of that part goes on, for who leads early is often overtaken; when none will come
    (`closing`) all of it, and at least one, so that the best is always trained to its end.
    """
    searched = [each for each in trials if each.role == "search"]
    for at in sorted({at for each in searched for at in each.rungs}, reverse=True):
        there = sorted((each for each in searched if at in each.rungs), key=lambda each: -spec.sign() * each.rungs[at])
        share = len(there) / spec.reduction
        most = max(1, math.floor(share)) if closing else math.floor(share / 2)
        for each in there[:most]:
            if each.state == "PAUSED" and max(each.rungs) == at:
                return each
    return None


def hopeless(spec: TuningSpec, course: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """The median rule: whether the best so far is worse than the median of the others' means up to the same length."""
    length = len(course)
    peers = [each[:length] for each in others if len(each) >= length]
    if length <= WARM_UP or len(peers) < PEERS:
        return False
    sound = [value for value in course if math.isfinite(value)]
    if not sound:
        return True
    best = max(sound) if spec.goal == "maximize" else min(sound)
    means = [sum(each) / len(each) for each in peers if all(map(math.isfinite, each))]
    return len(means) >= PEERS and spec.better(median(means), best)


def behind(spec: TuningSpec, course: Sequence[float], others: Sequence[Sequence[float]], epochs: int) -> bool:
    """Asha for a script, which cannot pause: whether a rung is passed below the upper 1/eta of those who passed it."""
    at = first(spec, epochs)
    while at <= min(len(course), epochs - 1):
        there = [each[at - 1] for each in others if len(each) >= at and math.isfinite(each[at - 1])]
        value = course[at - 1]
        if not math.isfinite(value):
            return True
        better = sum(spec.better(each, value) for each in there)
        if len(there) + 1 >= spec.reduction and better >= max(1, (len(there) + 1) // spec.reduction):
            return True
        at *= spec.reduction
    return False
