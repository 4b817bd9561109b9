"""How much each hyperparameter mattered: Optuna's PED-ANOVA over the trials, with what a few trials can say."""

import warnings

from houndsight.tuning.events import State
from houndsight.tuning.spec import TuningSpec
from houndsight.tuning.strategies import Searcher

FEWEST = 8
"""Completed trials below which nothing is said."""


def importance(spec: TuningSpec, state: State, fixed: dict[str, object]) -> dict[str, float]:
    """Name -> share of what made the better trials better, summing to 1, largest first; empty below `FEWEST` trials.

    PED-ANOVA (Watanabe et al., IJCAI 2023) compares where the best quarter lies with where all lie, so that parameters
    that count only in some trials have their share too.
    """
    completed = [each for each in state.searched if each.state == "COMPLETED" and each.value is not None]
    if len(completed) < FEWEST:
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction=spec.goal)
        Searcher(spec, dict(fixed)).remember(study, completed)
        names = [
            name
            for name in spec.space
            if len({repr(each.hyperparameters.get(name)) for each in completed if name in each.hyperparameters}) > 1
        ]
        common = [name for name in names if all(name in each.params for each in study.get_trials())]
        if len(study.trials) < FEWEST or not common:
            return {}
        evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=True)
        found = get_param_importances(study, evaluator=evaluator, params=common, normalize=True)
    return {name: round(float(value), 4) for name, value in found.items()}
