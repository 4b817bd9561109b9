"""Everything that can be known to be wrong with a tuning before it starts, said at once."""

import random
from typing import Any

from houndsight.errors import HoundsightError, SpecError, did_you_mean
from houndsight.recipes.classifier import complete
from houndsight.spec import ClassifierSpec
from houndsight.tuning import trials
from houndsight.tuning.objective import check_objective
from houndsight.tuning.space import AnyParameter, Categorical, Continuous, Space, Values, active, in_order
from houndsight.tuning.spec import TuningSpec

NOT_SEARCHED = frozenset(
    {
        "kind",
        "data",
        "split_seed",
        "evaluate_test",
        "soup",
        "seed",
        "device",
        "threads",
        "workers",
        "checkpoint_seconds",
    }
    | {"monitor"}
)
"""Fields of a classifier that are no hyperparameters: they change what is measured, or nothing."""
POINTS = 24
"""Random points of the space that are tried as specs."""


def problems(spec: TuningSpec) -> list[str]:
    """Every problem of the space, its conditions and the objective, each in a sentence."""
    found = [check_objective(spec.objective, spec.is_script, _metrics(spec))]
    found += _conditions(spec)
    if not spec.is_script:
        for name, parameter in spec.space.items():
            found += _of_field(name, parameter)
    if not any(found) and not spec.is_script:
        found += _together(spec)
    return [each for each in found if each]


def fitting(space: Space) -> Space:
    """The space with its choices as the fields of a classifier want them: `128+64` and `none` of a list of numbers."""
    fitted: Space = {}
    for name, parameter in space.items():
        field = ClassifierSpec.model_fields.get(name)
        if isinstance(parameter, Categorical) and field is not None and name == "hidden":
            parameter = parameter.model_copy(update={"choices": tuple(map(_widths, parameter.choices))})  # noqa: PLW2901
        fitted[name] = parameter
    return fitted


def _widths(choice: Any) -> Any:
    if choice in ("none", "", None):
        return []
    if isinstance(choice, int):
        return [choice]
    if isinstance(choice, str) and all(part.strip().isdigit() for part in choice.split("+")):
        return [int(part) for part in choice.split("+")]
    return list(choice) if isinstance(choice, list | tuple) else choice


def _metrics(spec: TuningSpec) -> dict[str, str]:
    metrics = dict(spec.job.get("metrics", {}))
    return {**metrics, spec.objective: spec.pattern} if spec.pattern else metrics


def _conditions(spec: TuningSpec) -> list[str]:
    """Conditions that can never hold, or ask for a name that nobody has."""
    found = []
    fixed = trials.fixed_values(spec)
    for name, parameter in spec.space.items():
        for other, wanted in parameter.only_if.items():
            if other in spec.space:
                wrong = [each for each in wanted if not _possible(spec.space[other], each)]
                found += [f"{name}: its condition {other}={each!r} can never hold" for each in wrong]
            elif other not in fixed:
                known = [*spec.space, *fixed]
                found.append(
                    f"{name}: its condition asks for {other!r}, which is not there. {did_you_mean(other, known)}"
                )
    return found


def _possible(parameter: AnyParameter, value: Any) -> bool:
    return parameter.holds(value)


def _of_field(name: str, parameter: AnyParameter) -> list[str]:
    """What a classifier's own bounds say to the ends and choices."""
    if name in NOT_SEARCHED:
        return [f"{name}: is no hyperparameter; give it as a setting of the tuning"]
    if name not in ClassifierSpec.model_fields:
        known = sorted(set(ClassifierSpec.model_fields) - NOT_SEARCHED)
        return [f"{name}: no such setting. {did_you_mean(name, known)}".strip()]
    if isinstance(parameter, Continuous) and ClassifierSpec.model_fields[name].annotation in (int, int | None):
        return [f"{name}: takes whole numbers; write int:{parameter.low:g}..{parameter.high:g}"]
    ends = parameter.choices if isinstance(parameter, Categorical) else (parameter.low, parameter.high)
    found = []
    for value in ends:
        try:
            ClassifierSpec.create(data="-", **{name: value})
        except SpecError as error:
            said = error.message.partition("wrong: ")[2]
            found += [each for each in said.split("; ") if each.startswith(f"{name}:") and _alone(each)]
    return found


def _alone(problem: str) -> bool:
    """Whether a problem is of the value itself and not of how it goes with the defaults."""
    return "closed-form" not in problem and "give epochs or steps" not in problem


def _together(spec: TuningSpec) -> list[str]:
    """What random points of the space would be refused for by the recipe."""
    draw = random.Random(0)
    found: list[str] = []
    for _ in range(POINTS):
        values: Values = {}
        fixed = trials.fixed_values(spec)
        for name in in_order(spec.space):
            if active(spec.space[name], {**fixed, **values}):
                values[name] = spec.space[name].at(draw.random())
        try:
            made = trials.spec_of(spec, values, None, None)
            assert isinstance(made, ClassifierSpec)
            complete(made, 1000, lambda _spec: True)
        except HoundsightError as error:
            said = error.message.partition("wrong: ")[2] or error.message
            where = ", ".join(f"{name}={value}" for name, value in values.items())
            found.append(f"{said.rstrip('.')} (at {where})")
    return found[:3]
