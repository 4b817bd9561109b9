"""The part of a job's log that a page shows: around the error where it stands there, else the end."""

import re
from pathlib import Path

LINES = 40
"""Lines of the log's end."""
BEFORE, AFTER, DEEPEST = 12, 8, 60
"""Lines shown before a traceback, after its error, and at most of the traceback itself."""
BYTES = 64 * 1024
"""How much of the log's end is read."""
LONGEST = 1000
"""Most characters of a line."""

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])|[\x00-\x08\x0b-\x1f\x7f]")
_HEADER = "Traceback (most recent call last):"


def tail(path: Path) -> tuple[str, ...]:
    """The last lines as a terminal would show them: no escape codes, and of a rewritten line its last state."""
    return _lines(path)[-LINES:]


def around(path: Path, error: str, place: str = "") -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The lines around the last one that is `error`, from before its traceback on, and which of them are the error or
    name `place` (the end of a traceback's line: `train.py", line 7`); the last lines where `error` is not there.
    """
    lines = _lines(path)
    at = next((number for number in reversed(range(len(lines))) if error and _same(lines[number], error)), None)
    if at is None:
        return lines[-LINES:], ()
    begin = next((number for number in range(at, -1, -1) if lines[number].strip() == _HEADER), None)
    first = max(0, at - LINES if begin is None else begin - BEFORE, at - DEEPEST)
    shown = lines[first : at + AFTER + 1]
    named = (number for number, line in enumerate(shown) if place and place in line)
    return shown, tuple(sorted({at - first, *named}))


def _same(line: str, error: str) -> bool:
    head = error.partition(" ... ")[0][:LONGEST]  # a long error was shortened in its middle
    return bool(head) and (line.strip() == error or (head != error and line.strip().startswith(head)))


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - BYTES))
        text = file.read().decode(errors="replace")
    lines = (_ESCAPES.sub("", line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip() for line in text.split("\n"))
    return tuple(line if len(line) <= LONGEST else line[:LONGEST] + " …" for line in lines if line)
