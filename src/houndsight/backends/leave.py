"""The end of a process that has imported PyTorch, without taking it apart; below the worker and the warm process."""

import atexit
import ctypes
import gc
import os
import signal
import sys
import threading
import types
from typing import Any


def leave(code: int, main: types.ModuleType | None = None) -> None:
    """End as Python ends, without taking modules apart: that takes 1.2 s, and copies every page that a fork shares.

    `main` is taken apart. A negative code is the signal to end by.
    """
    thread: Any = threading
    thread._shutdown()
    atexit._run_exitfuncs()
    _flush()
    if main is not None:
        for names in ([name for name in main.__dict__ if name.startswith("_")], list(main.__dict__)):
            main.__dict__.update(dict.fromkeys((name for name in names if name != "__builtins__"), None))
        del names
        gc.collect()
    unflushed = _flush()
    ctypes.CDLL(None).fflush(None)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code or unflushed)


def _flush() -> int:
    """Exit code for what could not be written, as Python's own."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except OSError:
                code = 120
    return code
