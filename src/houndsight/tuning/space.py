"""What a search may choose from: one parameter a name, with range, scale and the condition under which it counts.

The first thing of a tuning that is written down; the strategies draw from it, the page draws its axes by it.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from houndsight.spec import Frozen

Scale = Literal["linear", "log", "revlog"]
Values = dict[str, Any]
"""Name -> value of one trial."""

DIGITS = 4
"""Significant digits of a value that was drawn: enough for any search, and short enough to be typed again."""


class Continuous(Frozen):
    """A real number between two ends; `revlog` has its fine end at the top, for shares just below 1."""

    kind: Literal["continuous"] = "continuous"
    """What sort of parameter this is."""
    low: float = Field(allow_inf_nan=False)
    """Lowest value."""
    high: float = Field(allow_inf_nan=False)
    """Highest value."""
    scale: Scale = "linear"
    """linear, log, or revlog (log of the distance from 1)."""
    only_if: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Other parameter -> its values under which this one counts."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        _check_ends(self.low, self.high, self.scale)
        return self

    def at(self, share: float) -> float:
        """The value at `share` of the way from low to high, in 0 to 1, to four digits."""
        value = _at(self.low, self.high, self.scale, share)
        rounded = float(f"{value:.{DIGITS}g}") if self.scale != "revlog" else 1 - float(f"{1 - value:.{DIGITS}g}")
        return min(self.high, max(self.low, round(rounded, 12)))

    def share(self, value: Any) -> float:
        """Where `value` lies on the way from low to high, in 0 to 1; outside where it is outside."""
        return _share(self.low, self.high, self.scale, float(value))

    def holds(self, value: Any) -> bool:
        """Whether the value could have been drawn."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def grid(self, points: int) -> list[Any]:
        """`points` values evenly spread over the scale."""
        return list(dict.fromkeys(self.at(each / max(1, points - 1)) for each in range(points)))


class Integer(Frozen):
    """A whole number between two ends, both included."""

    kind: Literal["integer"] = "integer"
    """What sort of parameter this is."""
    low: int
    """Lowest value."""
    high: int
    """Highest value."""
    scale: Literal["linear", "log"] = "linear"
    """linear or log."""
    only_if: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Other parameter -> its values under which this one counts."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        _check_ends(self.low, self.high, self.scale)
        return self

    def at(self, share: float) -> int:
        """The value at `share` of the way, each number having an equal part of the scale."""
        low, high = self.low - 0.5, self.high + 0.5
        return min(self.high, max(self.low, round(_at(low, high, self.scale, share))))

    def share(self, value: Any) -> float:
        """Where `value` lies on the way from low to high, in 0 to 1; outside where it is outside."""
        return _share(self.low, self.high, self.scale, float(value))

    def holds(self, value: Any) -> bool:
        """Whether the value could have been drawn."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def grid(self, points: int) -> list[Any]:
        """Every number, or `points` of them where there are more."""
        if self.high - self.low < points:
            return list(range(self.low, self.high + 1))
        ends = (_at(self.low, self.high, self.scale, each / max(1, points - 1)) for each in range(points))
        return list(dict.fromkeys(round(each) for each in ends))


class Categorical(Frozen):
    """One of some values."""

    kind: Literal["categorical"] = "categorical"
    """What sort of parameter this is."""
    choices: tuple[Any, ...] = Field(min_length=1)
    """The values, any JSON."""
    only_if: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Other parameter -> its values under which this one counts."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if any(
            one == other and type(one) is type(other)
            for at, one in enumerate(self.choices)
            for other in self.choices[:at]
        ):
            raise ValueError("a value is given twice")
        return self

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers from small to large, so that neighbours are alike."""
        numbers = [each for each in self.choices if isinstance(each, int | float) and not isinstance(each, bool)]
        return len(numbers) == len(self.choices) and numbers == sorted(numbers)

    def at(self, share: float) -> Any:
        """The value at `share` of the list."""
        return self.choices[min(len(self.choices) - 1, int(share * len(self.choices)))]

    def share(self, value: Any) -> float:
        """Place of `value` in the list, in 0 to 1."""
        return self.place(value) / max(1, len(self.choices) - 1)

    def place(self, value: Any) -> int:
        """Position of `value`; raises `ValueError` where it is none of the values."""
        return [_plain(each) for each in self.choices].index(_plain(value))

    def holds(self, value: Any) -> bool:
        """Whether the value could have been drawn."""
        return _plain(value) in [_plain(each) for each in self.choices]

    def grid(self, points: int) -> list[Any]:
        """Every value, however many points are wanted."""
        del points
        return list(self.choices)


Parameter = Annotated[Continuous | Integer | Categorical, Field(discriminator="kind")]
AnyParameter = Continuous | Integer | Categorical
Space = dict[str, AnyParameter]


def active(parameter: AnyParameter, chosen: Values) -> bool:
    """Whether the parameter counts beside what was chosen of the others."""
    return all(
        name in chosen and _plain(chosen[name]) in [_plain(each) for each in wanted]
        for name, wanted in parameter.only_if.items()
    )


def in_order(space: Space) -> list[str]:
    """Names such that each comes after those on which it depends; raises `ValueError` where they depend in a circle."""
    order: list[str] = []
    left = list(space)
    while left:
        ready = [name for name in left if all(each in order or each not in space for each in space[name].only_if)]
        if not ready:
            raise ValueError(f"{', '.join(left)}: these depend on each other in a circle")
        order += ready
        left = [name for name in left if name not in ready]
    return order


def holds(space: Space, values: Values, fixed: Values) -> bool:
    """Whether the values are a point of the space: every parameter that counts is there and within its range."""
    counted = {name for name in space if active(space[name], {**fixed, **values})}
    return counted == set(values) & set(space) and all(space[name].holds(values[name]) for name in counted)


def counted(space: Space, values: Values, fixed: Values) -> Values:
    """Those of the values that are of the space and count beside the others."""
    found: Values = {}
    for name in in_order(space):
        if name in values and active(space[name], {**fixed, **found}):
            found[name] = values[name]
    return found


def point(space: Space, shares: dict[str, float], fixed: Values) -> Values:
    """The values at these shares (name -> 0 to 1), without the parameters that do not count there."""
    found: Values = {}
    for name in in_order(space):
        if active(space[name], {**fixed, **found}):
            found[name] = space[name].at(shares[name])
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_ends(low: float, high: float, scale: str) -> None:
    if low >= high:
        raise ValueError(f"the lower end {low:g} is not below the upper end {high:g}")
    if scale == "log" and low <= 0:
        raise ValueError(f"a log scale needs a lower end above 0, not {low:g}")
    if scale == "revlog" and not 0 <= low < high < 1:
        raise ValueError("a revlog scale needs ends from 0 to below 1")


def _at(low: float, high: float, scale: str, share: float) -> float:
    if scale == "log":
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    if scale == "revlog":
        return 1 - math.exp(math.log(1 - low) + share * (math.log(1 - high) - math.log(1 - low)))
    return low + share * (high - low)


def _share(low: float, high: float, scale: str, value: float) -> float:
    if scale == "log":
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low)) if value > 0 else -math.inf
    if scale == "revlog":
        return (
            (math.log(1 - value) - math.log(1 - low)) / (math.log(1 - high) - math.log(1 - low))
            if value < 1
            else math.inf
        )
    return (value - low) / (high - low)
