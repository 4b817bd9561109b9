"""What the rules remember of a run: the last moments of every tensor, all scalars, the classes; fed by the engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from houndsight.records.rules.moment import Moment
from houndsight.records.rules.passes import Judged, Passes

Floats = NDArray[np.float64]
_TOLD = frozenset({"loss", "accuracy"})
RING = 64  # saved steps of each mode; 64 x 300 tensors x 10 statistics are 0.8 MB


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that belong together: their short names (without the prefix) and their rows in the table."""

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    last: int
    """The highest row."""

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, slots=True)
class Flags:
    """What is known of the parameters of a group, as columns (n,)."""

    trainable: NDArray[np.bool_]
    """Whether it asks for a gradient; true where nothing is known."""
    stepped: NDArray[np.bool_]
    """Whether an optimizer has it; true where nothing is known."""
    matrix: NDArray[np.bool_]
    """Whether it is the weight of a linear layer or a convolution."""
    head: NDArray[np.bool_]
    """Whether it belongs to the head."""
    size: Floats
    """Number of values; NaN where its shape is not known."""
    fan_in: Floats
    """Values that enter one output of a weight; NaN elsewhere."""


class Series:
    """A growing column of (step, value); appending is amortised constant time."""

    def __init__(self) -> None:
        self._steps = np.empty(256, np.int64)
        self._values = np.empty(256, np.float64)
        self._count = 0

    def append(self, step: int, value: float) -> None:
        """Add one value; a repeated last step replaces its value."""
        if self._count and self._steps[self._count - 1] == step:
            self._values[self._count - 1] = value
            return
        if self._count == len(self._steps):
            self._steps = np.concatenate([self._steps, np.empty_like(self._steps)])
            self._values = np.concatenate([self._values, np.empty_like(self._values)])
        self._steps[self._count], self._values[self._count] = step, value
        self._count += 1

    @property
    def steps(self) -> NDArray[np.int64]:
        """(n,) steps as they came."""
        return self._steps[: self._count]

    @property
    def values(self) -> Floats:
        """(n,) values."""
        return self._values[: self._count]


class _Table:
    """The last `RING` saved steps of one mode: (RING, tensors, statistics), written round and round."""

    def __init__(self, statistics: int) -> None:
        self.values = np.full((RING, 0, statistics), np.nan, np.float32)
        self.steps = np.full(RING, -1, np.int64)
        self.count = 0

    def add(self, step: int, rows: NDArray[np.int64], values: NDArray[np.float32], tensors: int) -> None:
        missing = tensors - self.values.shape[1]
        if missing > 0:
            room = np.full((RING, missing + 32, self.values.shape[2]), np.nan, np.float32)
            self.values = np.concatenate([self.values, room], axis=1)
        place = self.count % RING
        self.values[place] = np.nan
        self.values[place, rows] = values
        self.steps[place] = step
        self.count += 1

    def places(self, last: int) -> NDArray[np.int64]:
        """Where the `last` newest saved steps stand, oldest first."""
        have = min(last, self.count, RING)
        return np.arange(self.count - have, self.count) % RING


class History:
    """What is known of the run so far; every method answers at once and without copying more than it returns."""

    def __init__(self, facts: dict[str, Any], statistics: Sequence[str]) -> None:
        self.facts = facts
        """What is true of the whole run (`facts.json`); a key that is absent is unknown."""
        self.moment = Moment(0)
        """The moment that is judged."""
        self.whole = False
        """Whether the run is over, so that all of it counts."""
        self.confusion: dict[str, NDArray[np.int64]] = {}
        """Mode -> the newest confusion counts (C, C)."""
        self.files: Sequence[str] = ()
        """Path of each training image, where they are known."""
        self.check: list[dict[str, Any]] | None = None
        """What the data check found; None where the data were not checked."""
        self.memo: dict[Any, Any] = {}
        """What was worked out of the judged moment, for whoever asks again; emptied with every moment."""
        self._validations, self._epochs = Passes("loss", patient=True), Passes("epoch_loss", patient=False)
        self._last = 0.0
        self._gaps: list[float] = []
        self._columns = {name: place for place, name in enumerate(statistics)}
        self._rows: dict[str, int] = {}
        self._tables: dict[str, _Table] = {}
        self._series: dict[tuple[str, str], Series] = {}
        self._known: tuple[tuple[str, ...], NDArray[np.int64]] = ((), np.empty(0, np.int64))
        self._groups: dict[str, Group] = {}
        self._pairs: dict[tuple[str, str], tuple[Group, Group]] = {}
        self._flags: dict[int, Flags] = {}
        self.kinds: dict[tuple[int, tuple[str, ...]], NDArray[np.bool_]] = {}
        """For rules/start.py: (group, types) -> which of its modules are of these types."""
        self.modules = {each["name"]: each.get("type", "") for each in facts.get("modules", [])}
        """Name -> type of every module that has none inside it, in the order in which the network holds them."""
        self._parameters = {each["name"]: each for each in facts.get("parameters", [])}

    def add(self, moment: Moment) -> None:
        """Take in one whole moment."""
        self.moment = moment
        self.memo.clear()
        if moment.time > self._last:
            if self._last > 0:
                self._gaps = [*self._gaps[1 - RING :], moment.time - self._last]
            self._last = moment.time
        if moment.mode == "train" and (moment.confusion is not None or "epoch_loss" in moment.scalars):
            self._epochs.add(moment.step, moment, int(self.facts.get("samples", 0)))
        elif moment.mode == "valid" and (moment.confusion is not None or not moment.scalars.keys().isdisjoint(_TOLD)):
            self._validations.add(moment.step, moment, int(self.facts.get("valid_samples", 0)))
        for name, value in moment.scalars.items():
            key = (name, moment.mode)
            if key not in self._series:
                self._series[key] = Series()
            self._series[key].append(moment.step, value)
        if moment.values is not None and moment.names:
            rows = self._rows_of(moment.names)
            table = self._tables.setdefault(moment.mode, _Table(len(self._columns)))
            table.add(moment.step, rows, moment.values, len(self._rows))
        if moment.confusion is not None:
            self.confusion[moment.mode] = moment.confusion

    @property
    def validations(self) -> list[Judged]:
        """Every validation that is known as a whole, in order."""
        return self._validations.done

    @property
    def epochs(self) -> list[Judged]:
        """Every epoch of training whose loss or hits are known, in order."""
        return self._epochs.done

    def epoch_before(self, validation: Judged) -> Judged | None:
        """The epoch of training that ended just before a validation; None where none was counted."""
        return next((each for each in reversed(self.epochs) if each.step <= validation.step), None)

    def end(self) -> None:
        """The run is over: all of it counts, and nothing is waited for."""
        self.whole = True
        self._epochs.end(int(self.facts.get("samples", 0)))
        self._validations.end(int(self.facts.get("valid_samples", 0)))

    def _rows_of(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        if names is not self._known[0] and names != self._known[0]:
            before = len(self._rows)
            rows = np.array([self._rows.setdefault(name, len(self._rows)) for name in names], np.int64)
            if len(self._rows) > before:
                self._groups.clear()
                self._pairs.clear()
                self._flags.clear()
                self.kinds.clear()
            self._known = (names, rows)
        return self._known[1]

    def clock(self) -> tuple[float, float]:
        """When the newest moment was (seconds since the epoch) and the median time between moments; NaN below 3."""
        return self._last, float(np.median(self._gaps)) if len(self._gaps) >= 3 else float("nan")

    # ------------------------------------------------------------------------------------- scalars

    def scalar(self, name: str, mode: str = "train") -> tuple[NDArray[np.int64], Floats]:
        """Steps (n,) and values (n,) of a scalar up to the judged step; empty where it was never recorded.

        Losses may come before the tensors of earlier steps, so what is later than the judged step is left out.
        """
        series = self._series.get((name, mode))
        if series is None:
            return np.empty(0, np.int64), np.empty(0)
        steps, values = series.steps, series.values
        if self.whole or not len(steps) or steps[-1] <= self.moment.step:
            return steps, values
        until = int(np.searchsorted(steps, self.moment.step, side="right"))
        return steps[:until], values[:until]

    def scalar_keys(self) -> list[tuple[str, str]]:
        """(name, mode) of every scalar, as they first appeared."""
        return list(self._series)

    # ------------------------------------------------------------------------------------- tensors

    def group(self, prefix: str) -> Group:
        """The tensors whose names begin with `prefix` ("gradient/"), in the order in which they first appeared."""
        found = self._groups.get(prefix)
        if found is None:
            names = [name for name in self._rows if name.startswith(prefix)]
            rows = np.array([self._rows[name] for name in names], np.int64)
            found = self._groups[prefix] = _group(tuple(name.removeprefix(prefix) for name in names), rows)
        return found

    def pair(self, first: str, second: str) -> tuple[Group, Group]:
        """The tensors that are known under both prefixes, as two groups in the same order."""
        found = self._pairs.get((first, second))
        if found is None:
            names = tuple(name for name in self.group(first).names if second + name in self._rows)
            found = self._pairs[first, second] = (
                _group(names, np.array([self._rows[first + name] for name in names], np.int64)),
                _group(names, np.array([self._rows[second + name] for name in names], np.int64)),
            )
        return found

    def now(self, group: Group, statistic: str, mode: str = "train") -> Floats:
        """(n,) values of a statistic at the newest saved step of the mode; NaN where it was not taken."""
        key = (id(group), statistic, mode)
        found: Floats | None = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self._newest(group, statistic, mode)
        return found

    def _newest(self, group: Group, statistic: str, mode: str) -> Floats:
        table, column = self._tables.get(mode), self._columns.get(statistic)
        if table is None or column is None or not table.count:
            return np.full(len(group), np.nan)
        values = table.values[(table.count - 1) % RING, :, column]
        if group.last < len(values):
            whole: Floats = values[group.rows].astype(np.float64)
            return whole
        [newest] = self.window(group, statistic, 1, mode)
        return np.asarray(newest)

    def window(self, group: Group, statistic: str, last: int, mode: str = "train") -> Floats:
        """(k, n) values of a statistic at the `last` newest saved steps or as many as there are, oldest first."""
        table, column = self._tables.get(mode), self._columns.get(statistic)
        if table is None:
            return np.empty((0, len(group)))
        places = table.places(last)
        if column is None:
            return np.full((len(places), len(group)), np.nan)
        inside = group.rows < table.values.shape[1]
        if inside.all():
            whole: Floats = table.values[places[:, None], group.rows[None, :], column].astype(np.float64)
            return whole
        taken = np.full((len(places), len(group)), np.nan)
        taken[:, inside] = table.values[places[:, None], group.rows[inside][None, :], column]
        return taken

    def saved(self, last: int, mode: str = "train") -> NDArray[np.int64]:
        """(k,) the `last` newest saved steps of the mode, oldest first."""
        table = self._tables.get(mode)
        return table.steps[table.places(last)] if table else np.empty(0, np.int64)

    def one(self, name: str, mode: str = "train") -> dict[str, float]:
        """The statistics of one tensor at the newest saved step; empty where it was not taken then."""
        found: dict[str, float] | None = self.memo.get((name, mode))
        if found is not None:
            return found
        row, table = self._rows.get(name), self._tables.get(mode)
        if row is None or table is None or row >= table.values.shape[1]:
            return {}
        taken = table.values[(table.count - 1) % RING, row].tolist()
        found = {of: taken[place] for of, place in self._columns.items() if taken[place] == taken[place]}
        self.memo[name, mode] = found
        return found

    # ------------------------------------------------------------------------------------- facts

    def parameter(self, name: str) -> dict[str, Any]:
        """What `facts.json` says of a parameter; empty where it says nothing."""
        known: dict[str, Any] = self._parameters.get(name, {})
        return known

    def ratios(self) -> tuple[Group, Flags, Floats]:
        """The weights with updates, what is known of them, and |update| / |weight| (n,) at the newest saved step."""
        updates, weights = self.pair("update/", "weight/")
        found: Floats | None = self.memo.get("ratios")
        if found is None:
            found = self.now(updates, "l2") / np.maximum(self.now(weights, "l2"), 1e-30)
            self.memo["ratios"] = found
        return weights, self.flags(weights), found

    def finite(self) -> bool:
        """Whether all that the judged moment holds of tensors is finite."""
        values, norm, share = self.moment.values, self._columns.get("l2"), self._columns.get("nonfinite")
        if values is None:
            return True
        bad = norm is not None and bool(np.isinf(values[:, norm]).any())
        return not bad and not (share is not None and bool((values[:, share] > 0).any()))

    def flags(self, group: Group) -> Flags:
        """What is known of the parameters of a group."""
        found = self._flags.get(id(group))
        if found is None:
            every = [self.parameter(name) for name in group.names]
            shapes = [each.get("shape") for each in every]
            flat = [shape is not None and len(shape) < 2 for shape in shapes]
            kinds = [each.get("kind", "weight") for each in every]
            found = self._flags[id(group)] = Flags(
                np.array([each.get("trainable", True) for each in every], bool),
                np.array([each.get("in_optimizer", True) for each in every], bool),
                np.array([kind == "weight" and not no for kind, no in zip(kinds, flat, strict=True)], bool),
                np.array([each.get("part") == "head" for each in every], bool),
                np.array([np.nan if shape is None else float(np.prod(shape)) for shape in shapes]),
                np.array([np.nan if not shape or len(shape) < 2 else float(np.prod(shape[1:])) for shape in shapes]),
            )
        return found

    @property
    def classes(self) -> int | None:
        """Number of classes, where it is known."""
        found = self.facts.get("num_classes")
        return int(found) if found else None


def _group(names: tuple[str, ...], rows: NDArray[np.int64]) -> Group:
    return Group(names, rows, int(rows.max(initial=-1)))
