"""How far a running job is, in one small file that is rewritten a few times a second; the terminal's bar reads it."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

INTERVAL = 0.25  # seconds between two writes: as often as a person can see


@dataclass(frozen=True)
class Snapshot:
    """One look at a running stage; `rate` is per second, `seconds_left` counts this stage alone."""

    stage: str
    done: int
    total: int
    rate: float | None = None
    seconds_left: float | None = None


class ProgressFile:
    """Called with (stage, done, total); writes `progress.json` at most every `INTERVAL` seconds.

    Fits `workspace.Progress`. The rate is that of the present stage since it began in this process, so a
    resumed stage does not count what an earlier process did.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stage = ""
        self._began = 0.0
        self._first = 0
        self._written = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note how far the stage is."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._first = stage, now, done
        elif now - self._written < INTERVAL and done < total:
            return
        self._written = now
        rate = (done - self._first) / (now - self._began) if now > self._began and done > self._first else None
        left = (total - done) / rate if rate else None
        self._write(Snapshot(stage, done, total, rate, left))

    def _write(self, snapshot: Snapshot) -> None:
        # No fsync: this file is worth nothing after a crash, and a sync costs milliseconds of the training's time.
        staged = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        staged.write_text(json.dumps(asdict(snapshot)), encoding="utf-8")
        staged.replace(self._path)


def read(path: Path) -> Snapshot | None:
    """The newest snapshot, or None where nothing was written yet."""
    try:
        return Snapshot(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
