"""Makes a forked process like one that has just been started: signals, files, variables, arguments, chance."""

import logging
import multiprocessing.process
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from houndsight.warm import title

_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores from its start."""


def let_go(keep: Collection[int]) -> None:
    """Close every file but the standard ones and `keep`; handlers of signals are Python's own again."""
    signal.set_wakeup_fd(-1)
    for each in signal.valid_signals():
        if signal.getsignal(each) not in (None, signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(each, signal.SIG_DFL)
    for each in _IGNORED:
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with suppress(OSError):  # the listing's own
                os.close(int(name))


def begin(arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> None:
    """Take on arguments, variables and working directory, and chance of its own."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    title.show(arguments, environment)
    sys.orig_argv[:] = arguments
    _forget()


def null_input() -> None:
    """Standard input is empty, as the processes of a job have it."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def threads() -> int:
    """Threads of this process, those that Python does not know of too."""
    return len(os.listdir("/proc/self/task"))


def _forget() -> None:
    """Draw anew what a process draws once, and take back what was derived from the parent's place.

    Python's own generator is seeded by Python after a fork. PyTorch's and numpy's are drawn at import.
    """
    tempfile.tempdir = None
    process: Any = multiprocessing.process
    process.ORIGINAL_DIR = str(Path.cwd())
    process.current_process().authkey = os.urandom(32)
    clock: Any = logging
    clock._startTime = time.time()
    numpy, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    if numpy is not None:
        numpy.seed()
    if torch is not None:
        torch.default_generator.seed()
    threading.current_thread().name = "MainThread"
