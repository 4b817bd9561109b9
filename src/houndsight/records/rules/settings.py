"""What was asked of the rules, as `name[:parameter=value,...]`, and what to do when one of them finds something."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from houndsight.errors import SpecError

OFF = "off"


@dataclass(frozen=True)
class Asked:
    """The rules as asked for."""

    given: dict[str, dict[str, str]] = field(default_factory=dict)
    """Rule -> its parameters."""
    off: frozenset[str] = frozenset()
    """Rules that are not asked."""
    none: bool = False
    """No rule at all."""


def parse(rules: Sequence[str]) -> Asked:
    """Every rule runs; `dead_relu:off` leaves one out, `none` leaves out all, `name:a=1,b=2` sets parameters.

    A parameter's value ends at the comma before the next `name=`, so that regular expressions may hold commas.
    Raises `SpecError` where this is not how it is written; which names there are is checked by the engine.
    """
    given: dict[str, dict[str, str]] = {}
    off = set()
    for rule in rules:
        name, _, rest = rule.strip().partition(":")
        if rest == OFF:
            off.add(name)
            continue
        parameters = given.setdefault(name, {})
        key = ""
        for part in rest.split(",") if rest else []:
            before, equals, value = part.partition("=")
            if equals and before.strip().isidentifier():
                key = before.strip()
                parameters[key] = value.strip()
            elif key:
                parameters[key] += f",{part}"
            else:
                raise SpecError(f"The rule '{rule}' is not written right.", f"Write {name}:parameter=value, or {name}.")
    none = "none" in given
    given.pop("none", None)
    if none and given:
        raise SpecError("'none' means no rules at all, and others are given beside it.", "Leave one of them out.")
    return Asked(given, frozenset(off), none)


@dataclass(frozen=True)
class Action:
    """What to do when a rule finds something."""

    kind: str = "none"
    """`none`, `stop` or `command`."""
    severity: str = "error"
    """The least severity that counts."""
    command: tuple[str, ...] = ()
    """Program and arguments; `{rule}`, `{severity}`, `{step}`, `{message}`, `{repair}` and `{job}` are filled in."""


def parse_action(text: str) -> Action:
    """`none`, `stop` (at errors), `stop:warning` (at warnings too), or a command, which runs at warnings and errors.

    Raises `SpecError` for a command that cannot be split into words.
    """
    word, _, severity = text.strip().partition(":")
    if word in {"none", ""} and not severity:
        return Action()
    if word == "stop" and severity in {"", "error", "warning"}:
        return Action("stop", severity or "error")
    try:
        command = tuple(shlex.split(text))
    except ValueError as error:
        raise SpecError(f"The command {text!r} cannot be run: {error}.", "Close every quotation mark.") from None
    if word == "stop" or not command:
        raise SpecError(f"'{text}' is nothing that can be done.", "Say none, stop, stop:warning, or a command.")
    return Action("command", "warning", command)


def filled(command: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The command with `{rule}` and its like replaced, word by word; a value never becomes several words."""
    words = []
    for word in command:
        for name, value in values.items():
            word = word.replace("{" + name + "}", value)  # noqa: PLW2901 - each replacement goes on from the last
        words.append(word)
    return words
