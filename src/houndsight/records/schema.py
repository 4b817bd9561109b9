"""What one recorded event is and how it stands in the file; between the running loop and everything that reads it.

`events.jsonl` holds one JSON object a line, told apart by its first key:

    {"format": 1, "host": "ada", "pid": 4711, "time": 1718000000.1}                     once for each writer
    {"scalar": "loss", "mode": "train", "step": 12, "value": 0.25, "time": 1718000001.2}
    {"span": "epoch", "step": 12, "start": 1718000000.4, "seconds": 3.5}

Values that are no JSON numbers stand as the strings "nan", "inf" and "-inf".
"""

from dataclasses import dataclass

FORMAT_VERSION = 1
"""Raised when a reader of the version before could misread what is written."""

EVENTS = "events.jsonl"
"""Name of the file inside the folder of records."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number of one step."""

    name: str
    """What it measures, such as `loss`."""
    mode: str
    """Which part of the run it belongs to: `train`, `valid`, or a name of the caller's own."""
    step: int
    """Training step, from 0."""
    value: float
    """The number; may be NaN or infinite."""
    time: float
    """When it was recorded, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of time that something took."""

    name: str
    """What was going on, such as `evaluate`."""
    step: int
    """Training step at which it began."""
    start: float
    """When it began, seconds since the epoch."""
    seconds: float
    """How long it took."""


Event = Scalar | Span
