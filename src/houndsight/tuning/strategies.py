"""How the next trial is chosen: at random, from a grid, or by what the earlier trials came to (TPE).

A proposal depends on the space, the seed, its number and the trials so far, and on nothing that is kept in memory: a
search that was killed goes on exactly as it would have.
"""

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from houndsight.tuning.events import Trial
from houndsight.tuning.space import (
    AnyParameter,
    Categorical,
    Integer,
    Space,
    Values,
    active,
    counted,
    holds,
    in_order,
    point,
)
from houndsight.tuning.spec import TuningSpec

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as Asked
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

POINTS = 5
"""Values of a range that a grid takes."""
TRIES = 50
"""Draws after which a point that was tried already is taken to be the last one there is."""


class Searcher:
    """Proposes the hyperparameters of trials; `fixed` is what the job has of its own, which conditions may ask for."""

    def __init__(self, spec: TuningSpec, fixed: Values) -> None:
        self._spec, self._space, self._fixed = spec, spec.space, fixed
        self._grid = grid(spec.space, fixed) if spec.strategy == "grid" else []
        self._size = size(spec.space)

    @property
    def start(self) -> int:
        """How many trials are spread evenly before the search learns from them."""
        return max(3, min(10, self._spec.jobs // 4, 2 * len(self._space) + 1))

    def propose(self, trials: Sequence[Trial]) -> Values | None:
        """The next point, given every trial of the search so far; None where no point is left."""
        drawn = [each for each in trials if each.role == "search"]
        number = len(drawn)
        wanted = [each for each in self._spec.first if holds(self._space, each, self._fixed)]
        if number < len(wanted):
            return wanted[number]
        if self._spec.strategy == "grid":
            return self._from_grid(number)
        tried = [each.hyperparameters for each in drawn]
        if self._size is not None and len({_key(each) for each in tried}) >= self._size:
            return None
        for attempt in range(TRIES):
            found = self._draw(number, attempt, trials)
            if found not in tried:
                return found
        return None if self._size is not None else found

    def _from_grid(self, number: int) -> Values | None:
        """Every point once; where the grid is larger than the search, an even sample of it in a shuffled order."""
        if number >= len(self._grid):
            return None
        if len(self._grid) <= self._spec.jobs:
            return self._grid[number]
        order = np.random.default_rng(self._spec.seed).permutation(len(self._grid))
        return self._grid[int(order[number])]

    def _draw(self, number: int, attempt: int, trials: Sequence[Trial]) -> Values:
        generator = np.random.default_rng([self._spec.seed, number, attempt])
        if self._spec.strategy == "random" or attempt > 0:
            return point(self._space, {name: float(generator.random()) for name in self._space}, self._fixed)
        ended = sum(each.promise is not None for each in trials) + len(self._spec.earlier)
        if number < self.start and ended < self.start + 1:
            return point(self._space, spread(list(self._space), number, self._spec.seed), self._fixed)
        return self._learned(generator, trials)

    def _learned(self, generator: np.random.Generator, trials: Sequence[Trial]) -> Values:
        """Ask Optuna's TPE, in memory, with every trial so far put in anew."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=int(generator.integers(2**31)),
                n_startup_trials=1,
                multivariate=True,
                group=any(each.only_if for each in self._space.values()),
                constant_liar=True,
            )
            study = optuna.create_study(sampler=sampler, direction=self._spec.goal)
            self.remember(study, trials)
            return self._asked(study.ask())

    def remember(self, study: "Study", trials: Sequence[Trial]) -> None:
        """Put every trial that is a point of the space into Optuna's study, in its order."""
        for known in self._spec.earlier:
            if holds(self._space, known.hyperparameters, self._fixed):
                study.add_trial(self._frozen(known.hyperparameters, "COMPLETE", value=known.value))
        for trial in trials:
            values = counted(self._space, trial.used or trial.hyperparameters, self._fixed)
            if not holds(self._space, values, self._fixed):
                continue
            if trial.state == "COMPLETED" and trial.value is not None:
                study.add_trial(self._frozen(values, "COMPLETE", value=trial.value))
            elif trial.state in ("DECIDED", "RUNNING"):
                study.add_trial(self._frozen(values, "RUNNING"))
            elif trial.state != "STOPPED":
                study.add_trial(self._frozen(values, "PRUNED", rungs=trial.rungs))

    def _frozen(
        self, values: Values, state: str, value: float | None = None, rungs: dict[int, float] | None = None
    ) -> "FrozenTrial":
        from optuna.trial import TrialState, create_trial

        counted = [name for name in in_order(self._space) if name in values]
        return create_trial(
            state=TrialState[state],
            value=value,
            params={name: encoded(self._space[name], values[name]) for name in counted},
            distributions={name: distribution(self._space[name]) for name in counted},
            intermediate_values=rungs or {},
        )

    def _asked(self, trial: "Asked") -> Values:
        found: Values = {}
        for name in in_order(self._space):
            parameter = self._space[name]
            if active(parameter, {**self._fixed, **found}):
                found[name] = decoded(parameter, suggested(trial, name, distribution(parameter)))
        return found


def spread(names: Sequence[str], number: int, seed: int) -> dict[str, float]:
    """Shares of the `number`-th point of an even spread over the unit cube, turned by the seed.

    Roberts' additive recurrence (2018): alpha_j = g^-j with g the root of x^(d+1) = x + 1.
    """
    root = 1.5
    for _ in range(60):
        root = (1 + root) ** (1 / (len(names) + 1))
    turned = np.random.default_rng([seed, 1]).random(len(names))
    return {name: float((turned[at] + (number + 1) * root ** -(at + 1)) % 1) for at, name in enumerate(names)}


def grid(space: Space, fixed: Values) -> list[Values]:
    """Every combination, without the parameters that do not count in it; a range has `POINTS` values."""
    order = in_order(space)
    found: list[Values] = []
    for combination in itertools.product(*(space[name].grid(POINTS) for name in order)):
        values: Values = {}
        for name, value in zip(order, combination, strict=True):
            if active(space[name], {**fixed, **values}):
                values[name] = value
        if values not in found:
            found.append(values)
    return found


def size(space: Space) -> int | None:
    """At most how many points there are; None where a parameter is continuous."""
    counts = []
    for parameter in space.values():
        if isinstance(parameter, Integer):
            counts.append(parameter.high - parameter.low + 1)
        elif isinstance(parameter, Categorical):
            counts.append(len(parameter.choices))
        else:
            return None
    return math.prod(counts)


def distribution(parameter: AnyParameter) -> "BaseDistribution":
    """The parameter as Optuna knows it; numbers from small to large are places, so that neighbours help each other."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Categorical):
        places = len(parameter.choices)
        if parameter.ordered and places > 2:
            return IntDistribution(0, places - 1)
        return CategoricalDistribution(tuple(range(places)))
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.scale == "log")
    if parameter.scale == "revlog":
        return FloatDistribution(1 - parameter.high, 1 - parameter.low, log=True)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.scale == "log")


def suggested(trial: "Asked", name: str, of: "BaseDistribution") -> Any:
    """Optuna's own choice for one parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(of, CategoricalDistribution):
        return trial.suggest_categorical(name, of.choices)
    if isinstance(of, IntDistribution):
        return trial.suggest_int(name, of.low, of.high, log=of.log)
    assert isinstance(of, FloatDistribution)
    return trial.suggest_float(name, of.low, of.high, log=of.log)


def encoded(parameter: AnyParameter, value: Any) -> Any:
    """The value as Optuna knows it."""
    if isinstance(parameter, Categorical):
        return parameter.place(value)
    if isinstance(parameter, Integer):
        return value
    if parameter.scale == "revlog":
        return min(1 - parameter.low, max(1 - parameter.high, 1 - value))
    return float(value)


def decoded(parameter: AnyParameter, value: Any) -> Any:
    """Optuna's value as the parameter has it, a real number to four digits."""
    if isinstance(parameter, Categorical):
        return parameter.choices[int(value)]
    if isinstance(parameter, Integer):
        return int(value)
    return parameter.at(parameter.share(1 - value if parameter.scale == "revlog" else value))


def _key(values: Values) -> str:
    return repr(sorted(values.items()))
