"""The one time that every image is decoded: threads that read, decode, resize and write rows; beneath `cache`."""

import errno
import os
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from houndsight.data.formats import Pixels
from houndsight.data.images import decode, read, square
from houndsight.data.store import Table
from houndsight.errors import ImageError
from houndsight.spec import Preprocess
from houndsight.workspace import Progress, atomic_write, friendly_disk_errors

STAGE = "decoding"
_CHUNK = 8
_TELL_SECONDS = 0.25


@dataclass
class Building:
    """One pass over `paths`: each square goes to its row of a new file, each unreadable file into `unreadable`."""

    root: Path
    paths: Sequence[str]
    preprocess: Preprocess
    folder: Path
    key: str
    keep: bool
    unreadable: dict[str, str] = field(default_factory=dict)
    _next: int = 0
    _done: int = 0
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _halt: threading.Event = field(default_factory=threading.Event)

    def run(self, changed: tuple[int, ...], workers: int, progress: Progress | None) -> Table:
        """Decode all and write the table; what was written is removed again where that fails."""
        name = f"{self.key}-{secrets.token_hex(4)}.pixels" if self.keep else ""
        with friendly_disk_errors(self.folder):
            try:
                handle = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644) if name else None
                try:
                    self._decode(handle, workers, progress)
                    if handle is not None:
                        os.truncate(handle, len(self.paths) * self.row_bytes)
                        os.fsync(handle)
                finally:
                    if handle is not None:
                        os.close(handle)
                return self._write_table(name, changed)
            except BaseException:
                if name:
                    (self.folder / name).unlink(missing_ok=True)
                raise

    @property
    def row_bytes(self) -> int:
        """Bytes of one square."""
        return self.preprocess.resize**2 * 3

    def _write_table(self, name: str, changed: tuple[int, ...]) -> Table:
        order = {path: self.unreadable[path] for path in self.paths if path in self.unreadable}
        side = self.preprocess.resize
        table = Table(pixels=name, side=side, paths=tuple(self.paths), changed=changed, unreadable=order)
        with atomic_write(self.folder / f"{self.key}.json") as file:
            file.write(table.model_dump_json().encode())
        return table

    def _decode(self, handle: int | None, workers: int, progress: Progress | None) -> None:
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            running = {pool.submit(self._work, handle) for _ in range(workers)}
            try:
                while running:
                    done, running = wait(running, timeout=_TELL_SECONDS)
                    if progress is not None:
                        progress(STAGE, self._done, len(self.paths))
                    for each in done:
                        each.result()
            finally:
                self._halt.set()

    def _work(self, handle: int | None) -> None:
        try:
            while not self._halt.is_set():
                with self._turn:
                    start, self._next = self._next, self._next + _CHUNK
                if start >= len(self.paths):
                    return
                for row in range(start, min(start + _CHUNK, len(self.paths))):
                    self._row(row, handle)
                    with self._turn:
                        self._done += 1
        except BaseException:
            self._halt.set()
            raise

    def _row(self, row: int, handle: int | None) -> None:
        path = self.paths[row]
        try:
            done = square(decode(read(self.root / path)), self.preprocess)
        except ImageError as error:
            self.unreadable[path] = error.message
            return
        if handle is not None:
            _write(handle, done, row * self.row_bytes)


def _write(handle: int, square_HWC: Pixels, at: int) -> None:
    """All bytes at offset `at`. By pwrite, not through the map: on a full disk that is an error, not a SIGBUS."""
    left = square_HWC.reshape(-1).data
    while left:
        written = os.pwrite(handle, left, at)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left, at = left[written:], at + written
