"""Starts and ends the sampler, the light process beside a training that writes down what the machine did."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from houndsight.errors import SpecError
from houndsight.watch.system import LONGEST, SHORTEST

MACHINE = "machine.jsonl"
"""Name of its file in the folder of records."""
_GRACE = 5.0


class Sampler:
    """A running sampler of this process and its descendants, seen from the thread that made it."""

    def __init__(self, folder: Path, interval: float = 0.5) -> None:
        """Raises `SpecError` where `interval` (seconds) is out of bounds."""
        if not SHORTEST <= interval <= LONGEST:
            raise SpecError(f"The machine cannot be sampled every {interval} seconds.", "Choose 0.1 to 60 seconds.")
        folder.mkdir(parents=True, exist_ok=True)
        words = [str(folder.absolute() / MACHINE), str(interval), str(os.getpid()), str(threading.get_native_id())]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "houndsight.watch.system", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,  # a Ctrl-C meant for the training must not cost the last samples
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """Take a last sample and end it; returns when it is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(_GRACE)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
