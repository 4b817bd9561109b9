"""What happened in a search, one JSON object a line, and the state that these lines amount to.

The controller changes its state only by writing an event and applying it; so the same lines always give the same
state, after a crash as before it. Every line has `event` and `time`; the events and what else they hold:

    began    format                                  a controller took over
    trial    number job hyperparameters role of      decided; its job may not be there yet
             seed bracket
    started  number until                            its job was submitted, to pause after `until` epochs
    paused   number epochs value                     it reached a rung
    retried  number reason                           the machine was at fault; once
    ended    number state value ...                  COMPLETED, FAILED, PRUNED or STOPPED
    phase    name                                    search, reseed, final, done
    left                                             the controller ended
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from houndsight.errors import WorkspaceError
from houndsight.workspace import friendly_disk_errors

FORMAT = 1
TrialState = Literal["DECIDED", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "PRUNED", "STOPPED"]
ENDED: frozenset[TrialState] = frozenset({"COMPLETED", "FAILED", "PRUNED", "STOPPED"})
Role = Literal["default", "search", "reseed", "final"]
SEARCHED: frozenset[Role] = frozenset({"default", "search"})


@dataclass
class Trial:
    """One trial as the events tell of it."""

    number: int
    job: str
    hyperparameters: dict[str, Any]
    role: Role = "search"
    of: int | None = None
    """The trial whose hyperparameters it repeats."""
    seed: int | None = None
    """Its own seed, where it is not that of the job."""
    bracket: int = 0
    """hyperband: how many rungs it leaves out."""
    state: TrialState = "DECIDED"
    until: int | None = None
    """Epochs after which it pauses."""
    rungs: dict[int, float] = field(default_factory=dict)
    """Epochs -> objective at each rung it reached."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    retried: bool = False
    seedless: bool = False
    """Whether another seed would give the same: a head fitted in closed form."""
    used: dict[str, Any] = field(default_factory=dict)
    """Values of the searched names as the job came to use them."""
    time: float = 0.0

    @property
    def searched(self) -> bool:
        """Whether it belongs to the search and not to what comes after."""
        return self.role in SEARCHED

    @property
    def promise(self) -> float | None:
        """The objective, or that of its last rung while there is no other."""
        if self.value is not None:
            return self.value
        return self.rungs[max(self.rungs)] if self.rungs else None


@dataclass
class State:
    """Where a search stands."""

    trials: list[Trial] = field(default_factory=list)
    phase: str = "search"
    sessions: int = 0
    seconds: float = 0.0
    """Time that controllers spent, up to the last event."""
    last: float = 0.0
    """When the last event was, seconds since the epoch."""

    def apply(self, event: dict[str, Any]) -> None:
        """Take one event in."""
        at = float(event["time"])
        if event["event"] == "began":
            self.sessions += 1
        else:
            self.seconds += max(0.0, at - self.last)
        self.last = at
        kind = event["event"]
        if kind == "trial":
            known = {
                name: event[name] for name in ("number", "job", "hyperparameters", "role", "of", "seed", "bracket")
            }
            self.trials.append(Trial(**known, time=at))
        elif kind == "phase":
            self.phase = event["name"]
        elif "number" in event:
            _change(self.trials[event["number"]], event)

    @property
    def searched(self) -> list[Trial]:
        """The trials of the search, by number."""
        return [each for each in self.trials if each.searched]

    @property
    def running(self) -> list[Trial]:
        """Trials whose job was submitted, or is about to be."""
        return [each for each in self.trials if each.state in ("DECIDED", "RUNNING")]

    @property
    def epochs(self) -> int:
        """Epochs of all trials that have ended or paused."""
        return sum(each.epochs for each in self.trials)


def _change(trial: Trial, event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "started":
        trial.state, trial.until = "RUNNING", event["until"]
    elif kind == "paused":
        trial.state, trial.epochs = "PAUSED", event["epochs"]
        trial.rungs[event["epochs"]] = event["value"]
    elif kind == "retried":
        trial.retried = True
    elif kind == "ended":
        for name in (
            "state",
            "value",
            "low",
            "high",
            "n",
            "metrics",
            "epochs",
            "seconds",
            "reason",
            "used",
            "seedless",
        ):
            setattr(trial, name, event.get(name, getattr(trial, name)))
        trial.rungs |= {int(at): value for at, value in event.get("rungs", {}).items()}


class EventLog:
    """Appends events to the file of one tuning; one writer, whole lines, on disk before anybody acts on them."""

    def __init__(self, path: Path) -> None:
        with friendly_disk_errors(path.parent):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.state = State()
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            os.ftruncate(self._file, len(whole))  # the writer was killed in the middle of a line
        for event in _parsed(whole, path):
            self.state.apply(event)
        self._path = path

    def add(self, event: str, **fields: Any) -> None:
        """Write one event and apply it."""
        document = {"event": event, **fields, "time": time.time()}
        line = json.dumps(document, ensure_ascii=False, allow_nan=True).encode() + b"\n"
        with friendly_disk_errors(self._path.parent):
            os.write(self._file, line)
            os.fdatasync(self._file) if hasattr(os, "fdatasync") else os.fsync(self._file)
        self.state.apply(json.loads(line))

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def read_state(path: Path) -> State:
    """The state that the events amount to; a torn last line is left out."""
    state = State()
    if path.is_file():
        text = path.read_bytes()
        for event in _parsed(text[: text.rfind(b"\n") + 1], path):
            state.apply(event)
    return state


def _parsed(text: bytes, path: Path) -> list[dict[str, Any]]:
    events = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            event = json.loads(line)
            if event.get("format", FORMAT) > FORMAT:
                raise WorkspaceError(f"{path} was written by a newer Houndsight.", "pip install --upgrade houndsight")
        except (ValueError, AttributeError):
            raise WorkspaceError(
                f"Line {number} of {path} is damaged.", "Start a new tuning with --from this one."
            ) from None
        events.append(event)
    return events
