"""Rules by whatever name they are asked for: Houndsight's, or SageMaker's of its debugger and its profiler."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from houndsight.errors import SpecError, did_you_mean
from houndsight.records.profiling import rules as profiling
from houndsight.records.profiling.report import snake_case
from houndsight.records.rules.settings import OFF, parse
from houndsight.records.rules.table import BY_NAME

REPORT = "ProfilerReport"
"""SageMaker's name for all rules of its profiler together; their parameters are `<Rule>_<parameter>`."""
ELSEWHERE = {
    "CreateXgboostReport": "gradient-boosted trees",
    "FeatureImportanceOverweight": "gradient-boosted trees",
    "TreeDepth": "gradient-boosted trees",
    "NLPSequenceRatio": "sequences of words",
    "DetailedProfilerProcessingJobConfig": "a processing job of SageMaker's own",
}
"""SageMaker's rules that have nothing to look at here, and what they are about."""


@dataclass(frozen=True)
class Named:
    """Rules as they were asked for, by who asks them."""

    debugger: tuple[str, ...] = ()
    """As `settings.parse` takes them."""
    profiler: dict[str, dict[str, Any]] = field(default_factory=dict)
    """SageMaker's name of a profiler's rule -> its parameters."""
    off: frozenset[str] = frozenset()
    """Rules of the profiler that are not asked."""


def named(rules: Sequence[str]) -> Named:
    """Tell the rules of the debugger from those of the profiler; raises `SpecError` for one that is neither."""
    debugger: list[str] = []
    profiler: dict[str, dict[str, Any]] = {}
    off: set[str] = set()
    for rule in rules:
        name, colon, rest = rule.strip().partition(":")
        if found := _of_debugger(name):
            debugger.append(found + colon + rest)
            continue
        own = _of_profiler(name)
        if own is None:
            raise _unknown(name)
        if rest == OFF:
            off |= set(profiling.RULES) if own == REPORT else {own}
            continue
        for parameter, text in parse([rule]).given[name].items():
            of, _, wanted = parameter.partition("_") if own == REPORT else (own, "", parameter)
            profiler.setdefault(of, {})[wanted] = _value(of, wanted, text)
    return Named(tuple(debugger), profiler, frozenset(off))


def _of_debugger(name: str) -> str:
    """The rule's own name, or nothing."""
    if name in BY_NAME or name == "none":
        return name
    snake = snake_case(name).removesuffix("_rule")
    return snake if snake in BY_NAME else ""


def _of_profiler(name: str) -> str | None:
    known = [*profiling.RULES, REPORT]
    return next((each for each in known if name in (each, snake_case(each))), None)


def _value(rule: str, parameter: str, text: str) -> Any:
    known = inspect.signature(profiling.RULES[rule]).parameters if rule in profiling.RULES else {}
    if parameter not in list(known)[1:]:
        names = ", ".join(list(known)[1:]) or "it has none"
        raise SpecError(f"The rule {rule} has no parameter '{parameter}'.", f"Its parameters: {names}.")
    if isinstance(known[parameter].default, int | float):
        try:
            return float(text)
        except ValueError:
            raise SpecError(f"{rule}:{parameter} is a number, not '{text}'.") from None
    return text


def _unknown(name: str) -> SpecError:
    if name in ELSEWHERE:
        return SpecError(f"The rule {name} is about {ELSEWHERE[name]}.", "Leave it out.")
    every = [*BY_NAME, *profiling.RULES, REPORT]
    return SpecError(f"There is no rule '{name}'.", did_you_mean(name, every) or "docs/rules.md lists them.")
