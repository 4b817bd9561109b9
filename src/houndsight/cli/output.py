"""What the command line writes: text or one JSON document on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from houndsight.errors import HoundsightError


def say(text: str = "") -> None:
    """Write a line of the result."""
    sys.stdout.write(text + "\n")


def note(text: str = "") -> None:
    """Write a line about the result: logs, progress, advice."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def document(value: Any) -> None:
    """Write the one JSON document of `--json`."""
    say(json.dumps(value, indent=1))


def table(rows: Iterable[Sequence[str]], head: Sequence[str]) -> None:
    """Write columns as wide as their widest entry, the head first."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def failed(error: HoundsightError, as_json: bool) -> int:
    """Write what was wrong and what to do about it; returns the exit code."""
    if as_json:
        document({"error": error.document()})
    else:
        note(f"houndsight: {error.message}")
        if error.repair:
            note(error.repair)
    return error.exit_code


def percent(value: float) -> str:
    """A share as people read it, with one decimal."""
    return f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Seconds as people read them."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e6:.1f} MB"
