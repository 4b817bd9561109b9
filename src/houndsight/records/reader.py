"""Reads what a job said about itself, also while it is still saying it; the second half of the way of the records."""

import json
import logging
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

import numpy as np

from houndsight.errors import DependencyError, WorkspaceError
from houndsight.records.schema import EVENTS, FORMAT_VERSION, Event, Scalar, Span

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("houndsight")

POLL_SECONDS = 0.2  # how often `follow` looks: the writer hands its lines over once a second


class Records:
    """The events in `folder`; holds nothing but the folder, so every call sees what is there now.

    A torn last line is left out: its writer was killed, or is just writing it. A job that resumed from a checkpoint
    records some steps twice; of a scalar the last value of a (name, mode, step) counts. Raises `WorkspaceError`
    where the events were written by a newer Houndsight.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS

    def scalars(self, name: str | None = None, mode: str | None = None) -> list[Scalar]:
        """The numbers of that name and mode, or of all: series by series as they first appeared, each by step."""
        return [
            Scalar(series, of, step, value, time)
            for (series, of), columns in self._series(name, mode).items()
            for step, value, time in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def curve(self, name: str, mode: str = "train") -> tuple[np.ndarray, np.ndarray]:
        """Steps (n,) int64 and values (n,) float64 of one series, by step; 24 bytes a number where a list takes 200."""
        columns = self._series(name, mode).get((name, mode))
        return (columns[0], columns[1]) if columns else (np.empty(0, np.int64), np.empty(0))

    def spans(self, name: str | None = None) -> list[Span]:
        """The stretches of time of that name, or all, in the order in which they ended."""
        return [each for each in self if isinstance(each, Span) and name in (None, each.name)]

    def names(self) -> list[tuple[str, str]]:
        """The (name, mode) of every series of numbers, as they first appeared."""
        return list(self._series(None, None))

    def to_pandas(self) -> "pd.DataFrame":
        """The numbers as a table with the columns name, mode, step, value and time (UTC), as `scalars` orders them."""
        try:
            import pandas as pd
        except ImportError:
            raise DependencyError("Tables need pandas.", "pip install 'houndsight[tables]'") from None
        found = self._series(None, None)
        lengths = [len(columns[0]) for columns in found.values()]
        keys = list(found)
        steps, values, times = _joined(list(found.values()))
        return pd.DataFrame(
            {
                "name": pd.Categorical(np.repeat(np.array([key[0] for key in keys], dtype=object), lengths)),
                "mode": pd.Categorical(np.repeat(np.array([key[1] for key in keys], dtype=object), lengths)),
                "step": steps,
                "value": values,
                "time": pd.to_datetime(times, unit="s", utc=True),
            }
        )

    def follow(self, stop: Flag) -> Iterator[Event]:
        """Yield every event from the first on, and new ones as they are written, until `stop` is set and all is read.

        A step that is recorded again after a resume is yielded again: who follows keeps the newest.
        """
        position, ended = 0, False
        while not ended:
            ended = stop.is_set()
            for place, event in self._read(position):
                position = place
                if event is not None:
                    yield event
            stop.wait(POLL_SECONDS)

    def __iter__(self) -> Iterator[Event]:
        """Every event in the order it was written, one at a time: a million of them need no memory."""
        for _, event in self._read(0):
            if event is not None:
                yield event

    def _series(self, name: str | None, mode: str | None) -> dict[tuple[str, str], tuple[np.ndarray, ...]]:
        found: dict[tuple[str, str], tuple[array[int], array[float], array[float]]] = {}
        for event in self:
            if isinstance(event, Scalar) and name in (None, event.name) and mode in (None, event.mode):
                key = (event.name, event.mode)
                if key not in found:
                    found[key] = (array("q"), array("d"), array("d"))
                steps, values, times = found[key]
                steps.append(event.step)
                values.append(event.value)
                times.append(event.time)
        return {key: _newest(*columns) for key, columns in found.items()}

    def _read(self, position: int) -> Iterator[tuple[int, Event | None]]:
        """Yield (position after the line, its event if it holds one) for every whole line from `position` on.

        Ends where the file ended when it was opened: a loop may write faster than anyone can read.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        damaged = 0
        with file:
            end = os.fstat(file.fileno()).st_size
            file.seek(position)
            while position < end and (line := file.readline()).endswith(b"\n"):
                position += len(line)
                try:
                    event = self._parse(json.loads(line))
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    damaged += 1
                    event = None
                yield position, event
        if damaged:
            log.warning("%d damaged lines in %s were left out.", damaged, self._path)

    def _parse(self, line: dict[str, Any]) -> Event | None:
        if "scalar" in line:
            name, mode, step = _text(line["scalar"]), _text(line["mode"]), _step(line["step"])
            return Scalar(name, mode, step, float(line["value"]), float(line["time"]))
        if "span" in line:
            return Span(_text(line["span"]), _step(line["step"]), float(line["start"]), float(line["seconds"]))
        if line["format"] > FORMAT_VERSION:
            raise WorkspaceError(
                f"{self._path} was written by a newer Houndsight (format {line['format']}; this one reads up to "
                f"{FORMAT_VERSION}).",
                "pip install --upgrade houndsight",
            )
        return None


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    return given


def _step(given: object) -> int:
    if not isinstance(given, int):
        raise TypeError
    if not -(2**63) <= given < 2**63:
        raise OverflowError
    return given


def _newest(steps: "array[int]", values: "array[float]", times: "array[float]") -> tuple[np.ndarray, ...]:
    """The columns by step, of each repeated step the one written last."""
    step = np.frombuffer(steps, np.int64)
    _, last = np.unique(step[::-1], return_index=True)
    chosen = len(step) - 1 - last
    return step[chosen], np.frombuffer(values, np.float64)[chosen], np.frombuffer(times, np.float64)[chosen]


def _joined(found: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not found:
        return np.empty(0, np.int64), np.empty(0), np.empty(0)
    steps, values, times = (np.concatenate(column) for column in zip(*found, strict=True))
    return steps, values, times
