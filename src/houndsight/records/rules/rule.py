"""What a rule is: it looks at the history after every moment and says what it found; the engine asks all of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from houndsight.errors import SpecError, did_you_mean
from houndsight.records.rules.history import History
from houndsight.spec import Finding

Severity = Literal["info", "warning", "error"]


class Rule(ABC):
    """One thing that can go wrong with a training.

    A rule that was never given what it needs says so (`NotApplicable`), and never that all is well: `judge` sets
    `looked` once it had everything. Where one of SageMaker's own parameters is given, `compatible` is true and the
    rule decides as SageMaker documents it; otherwise our own statistics decide.
    """

    name: ClassVar[str]
    """Snake-case name; SageMaker's where it is one of SageMaker's rules."""
    needs: ClassVar[str]
    """What it cannot do without, in words that end the sentence `Not recorded: ...`."""
    sagemaker: ClassVar[Mapping[str, Any]] = {}
    """SageMaker's parameters of this rule with SageMaker's defaults."""
    hears: ClassVar[frozenset[str]] = frozenset({"tensors"})
    """After which parts of a moment it is asked: `tensors`, `scalars`, `samples`, `confusion`."""
    ours: ClassVar[Mapping[str, Any]] = {}
    """Further parameters with their defaults."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        """Raises `SpecError` for a parameter that the rule does not have, or a value that is none of its kind."""
        self.looked = False
        self.given: dict[str, Any] = {}
        known = {**self.sagemaker, **self.ours}
        for name, text in (given or {}).items():
            if name not in known:
                names = ", ".join(known) or "it has none"
                raise SpecError(
                    f"The rule {self.name} has no parameter '{name}'.",
                    did_you_mean(name, known) or f"Its parameters: {names}.",
                )
            self.given[name] = _value(f"{self.name}:{name}", text, known[name])
        self.compatible = any(name in self.sagemaker for name in self.given)

    def value(self, name: str) -> Any:
        """The given value of a parameter, or its default."""
        return self.given.get(name, {**self.sagemaker, **self.ours}[name])

    @abstractmethod
    def judge(self, history: History) -> Iterable[Finding]:
        """What is newly found after `history.moment`, which the history holds already."""

    def finish(self, history: History) -> Iterable[Finding]:  # noqa: ARG002 - most rules have no last word
        """What can only be said at the end."""
        return ()

    def picked(self, prefix: str, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """(n,) or (1,) which tensors `tensor_regex` and `collection_names` mean; all where none is given."""
        if not self.given:
            return _ALL
        patterns = [self.given["tensor_regex"]] if "tensor_regex" in self.given else []
        named = [each.strip() for each in str(self.given.get("collection_names", "")).split(",")]
        patterns += [COLLECTIONS.get(each, re.escape(each)) for each in named if each]
        if not patterns:
            return _ALL
        regex = re.compile("|".join(patterns))
        return np.array([regex.search(prefix + name) is not None for name in names], bool)

    def issue(
        self,
        message: str,
        repair: str,
        *,
        severity: Severity = "warning",
        step: int | None = None,
        files: Iterable[str] = (),
        evidence: Mapping[str, Any] | None = None,
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            source="debugger",
            rule=self.name,
            severity=severity,
            step=step,
            files=tuple(files),
            message=message,
            repair=repair,
            evidence=plain(evidence or {}),
        )


_ALL = np.ones(1, bool)

COLLECTIONS = {
    "weights": "^weight/.*weight",
    "biases": "^weight/.*bias",
    "gradients": "^gradient/",
    "losses": "^loss",
    "all": "",
    "default": "",
}
"""SageMaker's collections as patterns of our names."""

SCALARS, SAMPLES, CONFUSION = frozenset({"scalars"}), frozenset({"samples"}), frozenset({"confusion"})
"""For `Rule.hears`."""


class Streak:
    """Counts for each of many tensors how often in a row something held; fires once, and again only after a rest.

    `needed` times in a row fire; `rest` times in a row without it re-arm. A tensor that was not taken keeps its count.
    """

    def __init__(self, needed: int, rest: int | None = None) -> None:
        self.needed, self.rest = needed, rest or needed
        self._held = np.zeros(0, np.int64)
        self._clear = np.zeros(0, np.int64)
        self._fired = np.zeros(0, bool)
        self.quiet = True
        """Whether nothing is counted and nothing has fired: then no news is no change."""

    def update(self, holds: NDArray[np.bool_], known: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """(n,) which fire now; `holds` (n,) in the same order as ever, longer only at its end."""
        count = len(holds)
        if self.quiet and not holds.any():
            return np.zeros(count, bool)
        if count > len(self._held):
            more = count - len(self._held)
            self._held = np.concatenate([self._held, np.zeros(more, np.int64)])
            self._clear = np.concatenate([self._clear, np.zeros(more, np.int64)])
            self._fired = np.concatenate([self._fired, np.zeros(more, bool)])
        seen = np.ones(count, bool) if known is None else known
        held, clear, fired = self._held[:count], self._clear[:count], self._fired[:count]
        held[seen] = np.where(holds[seen], held[seen] + 1, 0)
        clear[seen] = np.where(holds[seen], 0, clear[seen] + 1)
        fired[clear >= self.rest] = False
        new = (held >= self.needed) & ~fired & seen
        fired |= new
        self.quiet = not (held.any() or fired.any())
        return new


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first names and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def plain(value: Any) -> Any:
    """Numbers of numpy as Python's, rounded to six digits, so that the evidence is readable JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.6g}")
    return value


def _value(name: str, text: Any, default: Any) -> Any:
    """`text` as the type of `default`; a parameter without a default is a number."""
    if isinstance(default, bool):
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(text).lower() in words:
            return words[str(text).lower()]
        raise SpecError(f"{name} is true or false, not '{text}'.")
    if isinstance(default, str):
        return str(text)
    try:
        number = float(text)
        return int(number) if isinstance(default, int) and number == int(number) else number
    except (TypeError, ValueError, OverflowError):
        raise SpecError(f"{name} is a number, not '{text}'.") from None
