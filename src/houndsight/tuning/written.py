"""A space as people write it, on the command line, in a file or in Python; all of it is read before anything starts.

lr=log:1e-4..1e-1            real, log scale           epochs=int:5..15         whole
dropout=0..0.5               real                      steps=int:log:100..5000  whole, log scale
ema=revlog:0.9..0.9999       real, fine towards 1      batch_size=32,64,128     one of these, or 32|64|128
lr=log(1e-4,1e-1)            as log:1e-4..1e-1         epochs=int(5,15)         as int:5..15
momentum=0.8..0.99 if optimizer=sgd                    label_smoothing=0.1      fixed
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from houndsight.errors import SpecError
from houndsight.tuning.space import AnyParameter, Categorical, Continuous, Integer, Parameter, Space, in_order

_RANGE = re.compile(
    r"(?P<kind>(?:int|log|revlog|linear)(?::(?:int|log|linear))?)?:?(?P<low>[^.:,]*(?:\.\d[^.:,]*)?)\.\.(?P<high>[^:,]+)"
)
_PARAMETER: TypeAdapter[AnyParameter] = TypeAdapter(Parameter)
_CALLED = re.compile(r"(?P<kind>(?:int|log|revlog|linear)?(?::(?:log|linear))?)\((?P<low>[^,()]+),(?P<high>[^,()]+)\)")
Given = Mapping[str, Any] | Sequence[str]


def read_space(given: Given | None) -> Space:
    """The space from `name=...` strings, or from a dictionary of strings, lists, ranges and parameters.

    Raises `SpecError` that names every parameter that cannot be read.
    """
    pairs, problems = _pairs(given or {})
    space: Space = {}
    for name, value in pairs:
        try:
            if name in space:
                raise ValueError("is given twice")
            space[name] = _parameter(value)
        except ValidationError as error:
            problems += [f"{name}: {each['msg'].removeprefix('Value error, ')}" for each in error.errors()]
        except ValueError as error:
            problems.append(f"{name}: {error}")
    for name, parameter in space.items():
        if name in parameter.only_if:
            problems.append(f"{name}: cannot depend on itself")
    if not problems:
        try:
            in_order(space)
        except ValueError as error:
            problems.append(str(error))
    raise_all(problems)
    return space


def read_file(path: str | Path) -> dict[str, Any]:
    """The dictionary in a JSON or TOML file; raises `SpecError` where there is none."""
    place = Path(path).expanduser()
    try:
        text = place.read_text(encoding="utf-8")
        found = tomllib.loads(text) if place.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SpecError(f"The space {place} cannot be read: {error.strerror}.", "Give a .json or .toml file.") from None
    except ValueError as error:
        raise SpecError(f"The space {place} is no {place.suffix or 'JSON'}: {error}.") from None
    if not isinstance(found, dict):
        raise SpecError(f"The space {place} holds no object of names and ranges.", 'Write {"lr": "log:1e-4..1e-1"}.')
    return found


def raise_all(problems: Iterable[str]) -> None:
    """Raise one `SpecError` for all problems, or nothing where there is none."""
    found = list(dict.fromkeys(each.rstrip(".") for each in problems))
    if found:
        count = "One setting is" if len(found) == 1 else f"{len(found)} settings are"
        raise SpecError(f"{count} wrong: " + "; ".join(found) + ".")


def _pairs(given: Given) -> tuple[list[tuple[str, Any]], list[str]]:
    if isinstance(given, Mapping):
        return [(str(name), value) for name, value in given.items()], []
    pairs, problems = [], []
    for each in given:
        name, sign, value = each.partition("=")
        if sign and name.strip() and value.strip():
            pairs.append((name.strip(), value.strip()))
        else:
            problems.append(f"{each!r} is no NAME=RANGE, such as lr=log:1e-4..1e-1 or batch_size=32,64")
    return pairs, problems


def _parameter(value: Any) -> AnyParameter:
    if isinstance(value, Continuous | Integer | Categorical):
        return value
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, Mapping):
        return _from_object(dict(value))
    if isinstance(value, list | tuple):
        return Categorical(choices=tuple(value))
    return Categorical(choices=(value,))


def _from_object(given: dict[str, Any]) -> AnyParameter:
    """`{"low", "high", "scale", "if"}`, `{"choices"}`, or what a parameter itself is as JSON."""
    if "if" in given:
        given["only_if"] = given.pop("if")
    condition = given.get("only_if", {})
    if isinstance(condition, str):
        given["only_if"] = _condition(condition)
    elif isinstance(condition, Mapping):
        given["only_if"] = {
            name: tuple(each) if isinstance(each, list | tuple) else (each,) for name, each in condition.items()
        }
    if "range" in given:
        inner = _from_text(str(given.pop("range")))
        given = {**inner.model_dump(), **given}
    if "kind" not in given:
        whole = isinstance(given.get("low"), int) and isinstance(given.get("high"), int)
        given["kind"] = "categorical" if "choices" in given else "integer" if whole else "continuous"
    return _PARAMETER.validate_python(given)


def _from_text(text: str) -> AnyParameter:
    body, _, condition = text.partition(" if ")
    only_if = _condition(condition) if condition else {}
    body = body.strip()
    if called := _CALLED.fullmatch(body):
        kind = f"{called['kind']}:" if called["kind"] else ""
        body = f"{kind}{called['low'].strip()}..{called['high'].strip()}"
    matched = _RANGE.fullmatch(body)
    if matched is None:
        if ".." in body or re.match(r"(int|log|revlog|linear)[:(]", body):
            raise ValueError(f"{body!r} is no range; write log:1e-4..1e-1, int:5..15, revlog:0.9..0.999 or 0.1..0.5")
        sign = "|" if "|" in body else ","
        return Categorical(choices=tuple(typed(each) for each in body.split(sign)), only_if=only_if)
    words = (matched["kind"] or "linear").split(":")
    low, high = _number(matched["low"]), _number(matched["high"])
    scale = next((each for each in words if each in ("log", "revlog")), "linear")
    if "int" in words:
        if low != int(low) or high != int(high):
            raise ValueError(f"{body!r} has ends that are not whole")
        return _PARAMETER.validate_python(
            {"kind": "integer", "low": int(low), "high": int(high), "scale": scale, "only_if": only_if}
        )
    return _PARAMETER.validate_python(
        {"kind": "continuous", "low": low, "high": high, "scale": scale, "only_if": only_if}
    )


def _condition(text: str) -> dict[str, tuple[Any, ...]]:
    found = {}
    for each in text.split(" and "):
        name, sign, values = each.partition("=")
        if not sign or not name.strip() or not values.strip():
            raise ValueError(f"{each.strip()!r} is no condition; write: if optimizer=sgd")
        found[name.strip()] = tuple(typed(value) for value in values.split(","))
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


def typed(text: str) -> Any:
    """A value as it was typed: JSON where it is JSON, else text."""
    text = text.strip()
    try:
        return json.loads(text, parse_constant=lambda constant: constant)
    except ValueError:
        return text
