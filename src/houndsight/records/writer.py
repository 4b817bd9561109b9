"""Writes what the running loop says about itself as lines of JSON; the first half of the way of the records."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from houndsight.records.schema import EVENTS, FORMAT_VERSION
from houndsight.workspace import friendly_disk_errors

FLUSH_SECONDS = 1.0
_FLUSH_LINES = 1024  # about 100 KiB: one write of that size costs less than a hundredth of the lines in it


class RecordWriter:
    """Appends events to `folder`; safe to call from several threads, a few microseconds a call.

    Lines are gathered and written at least once a second, whole lines only. A file that a killed writer left with a
    torn last line is cut back to its last whole line. After a fork only the process that made the writer writes.
    Any call raises `DiskFullError` or `WorkspaceError` once the file could not be written.
    """

    def __init__(self, folder: Path) -> None:
        self._place = folder
        self._lines: list[str] = []
        self._keys: dict[str, str] = {}
        self._lock = Lock()
        self._closed = Event()
        self._failed: Exception | None = None
        self._pid = os.getpid()
        self.listener: Callable[[str, str, int, float], None] | None = None
        """Told (name, mode, step, value) of every scalar, in the thread that records it."""
        with friendly_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / EVENTS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                cut_torn_line(self._file)
            except BaseException:
                os.close(self._file)
                raise
        host = json.dumps(socket.gethostname())
        self._lines.append(
            f'{{"format": {FORMAT_VERSION}, "host": {host}, "pid": {self._pid}, "time": {time.time():.6f}}}\n'
        )
        self._flusher = Thread(target=self._flush_regularly, name="houndsight-records", daemon=True)
        self._flusher.start()

    def scalar(self, name: str, value: float, *, step: int, mode: str = "train") -> None:
        """Record one number; anything that `float` takes is a value, NaN and the infinities too."""
        value = float(value)
        number = repr(value) if isfinite(value) else f'"{value!r}"'
        self._append(
            f'{{"scalar": {self._key(name)}, "mode": {self._key(mode)}, "step": {int(step)}, '
            f'"value": {number}, "time": {time.time():.6f}}}\n'
        )
        if self.listener is not None:
            self.listener(name, mode, step, value)

    def scalars(self, step: int, values: Mapping[str, float], mode: str = "train") -> None:
        """Record several numbers of one step; two cost 60 % of two calls of `scalar`."""
        head, now = f', "mode": {self._key(mode)}, "step": {int(step)}, "value": ', f', "time": {time.time():.6f}}}\n'
        text = ""
        for name, given in values.items():
            value = float(given)
            number = repr(value) if isfinite(value) else f'"{value!r}"'
            text += f'{{"scalar": {self._key(name)}{head}{number}{now}'
            if self.listener is not None:
                self.listener(name, mode, step, value)
        self._append(text)

    def add_span(self, name: str, start: float, seconds: float, step: int) -> None:
        """Record a stretch of `seconds` that began at `start` (seconds since the epoch)."""
        self._append(
            f'{{"span": {self._key(name)}, "step": {int(step)}, "start": {float(start):.6f}, '
            f'"seconds": {float(seconds):.9f}}}\n'
        )

    @contextmanager
    def span(self, name: str, *, step: int) -> Iterator[None]:
        """Record how long the block takes, also where it raises."""
        start, clock = time.time(), time.perf_counter()
        try:
            yield
        finally:
            self.add_span(name, start, time.perf_counter() - clock, step)

    def flush(self) -> None:
        """Hand everything recorded so far to the operating system; readers see it from then on."""
        with self._lock:
            self._write_out()
        self._raise_failure()

    def close(self) -> None:
        """Write what is left and let go of the file; more than one call is allowed."""
        if self._closed.is_set() or os.getpid() != self._pid:  # locks of a fork may be held by threads it has not
            return
        self._closed.set()
        self._flusher.join()
        with self._lock:
            self._write_out()
            os.close(self._file)
        self._raise_failure()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _key(self, name: str) -> str:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = json.dumps(name)
        return key

    def _append(self, line: str) -> None:
        if self._failed is not None or self._closed.is_set():
            self._raise_failure()
            raise ValueError("this writer of records is closed")
        with self._lock:
            self._lines.append(line)
            if len(self._lines) >= _FLUSH_LINES:
                self._write_out()

    def _flush_regularly(self) -> None:
        while not self._closed.wait(FLUSH_SECONDS):
            with self._lock:
                self._write_out()

    def _write_out(self) -> None:
        """Write the gathered lines; the lock is held. A failure is kept for the next caller: this may be a thread."""
        if not self._lines or os.getpid() != self._pid or self._failed is not None:
            return
        left = memoryview("".join(self._lines).encode())
        self._lines.clear()
        try:
            with friendly_disk_errors(self._place):
                while left:
                    left = left[os.write(self._file, left) :]
        except Exception as error:  # noqa: BLE001 - raised again by _raise_failure in the thread that records
            self._failed = error

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed


def cut_torn_line(file: int) -> None:
    """Cut an open file back to its last whole line; nothing else in it is touched."""
    end = os.fstat(file).st_size
    position = end
    while position > 0:
        block = min(position, 65536)
        newline = os.pread(file, block, position - block).rfind(b"\n")
        if newline >= 0:
            position = position - block + newline + 1
            break
        position -= block
    if position < end:
        os.ftruncate(file, position)
