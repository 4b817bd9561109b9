"""How much each hyperparameter mattered: PED-ANOVA over the trials, with what a few trials can say."""

import numpy as np
from numpy.typing import NDArray

from houndsight.tuning.events import State, Trial
from houndsight.tuning.space import AnyParameter, Categorical
from houndsight.tuning.spec import TuningSpec

FEWEST = 8
"""Completed trials below which nothing is said."""
BETTER = 0.25
"""Share of the trials that count as the better ones."""
_GRID = (np.arange(64) + 0.5) / 64
Floats = NDArray[np.float64]


def importance(spec: TuningSpec, state: State) -> dict[str, float]:
    """Name -> share of what made the better trials better, summing to 1, largest first; empty below `FEWEST` trials.

    PED-ANOVA (Watanabe et al., IJCAI 2023, equation 16): the Pearson divergence of where the better quarter lies from
    where all trials lie, one hyperparameter at a time, over the trials in which it counts. Optuna has the same, but
    its import brings scikit-learn, pandas and scipy along: 4 s of CPU.
    """
    found = {}
    for name, parameter in spec.space.items():
        there = [each for each in state.searched if _counts(each, name, parameter)]
        there.sort(key=lambda each: -spec.sign() * float(each.value or 0.0))
        if len(there) >= FEWEST and len({repr(_value(each, name)) for each in there}) > 1:
            shares = np.array([parameter.share(_value(each, name)) for each in there])
            found[name] = _divergence(parameter, shares[: max(2, round(BETTER * len(shares)))], shares)
    total = sum(found.values())
    ranked = sorted(found.items(), key=lambda each: -each[1])
    return {name: round(value / total, 4) for name, value in ranked} if total > 0 else {}


def _value(trial: Trial, name: str) -> object:
    return trial.hyperparameters.get(name, trial.used.get(name) if trial.role == "default" else None)


def _counts(trial: Trial, name: str, parameter: AnyParameter) -> bool:
    return trial.state == "COMPLETED" and trial.value is not None and parameter.holds(_value(trial, name))


def _divergence(parameter: AnyParameter, better: Floats, every: Floats) -> float:
    """E over all of (density of the better / density of all - 1)^2."""
    density = _counted if isinstance(parameter, Categorical) else _smoothed
    places = len(parameter.choices) if isinstance(parameter, Categorical) else 0
    top, all_ = density(better, places), density(every, places)
    return float((all_ * (top / all_ - 1) ** 2).sum() / all_.sum())


def _counted(shares: Floats, places: int) -> Floats:
    """Frequency of each value, with one trial spread evenly over all of them."""
    counts = np.bincount(np.rint(shares * (places - 1)).astype(int), minlength=places)
    frequency: Floats = (counts + 1 / places) / (len(shares) + 1)
    return frequency


def _smoothed(shares: Floats, _places: int) -> Floats:
    """Gaussian kernels of Scott's width on a grid, each whole within 0 to 1, with one trial spread evenly."""
    width = max(0.05, float(shares.std()) * len(shares) ** -0.2)
    kernels = np.exp(-0.5 * ((_GRID[:, None] - shares[None, :]) / width) ** 2)
    density: Floats = ((kernels / kernels.mean(axis=0)).sum(axis=1) + 1) / (len(shares) + 1)
    return density
