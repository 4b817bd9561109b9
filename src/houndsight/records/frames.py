"""Append-only files of checked frames: what the tensor store and the array store are made of.

A file begins with eight bytes that name its kind and version. A frame is its payload's length and CRC-32 (two
little-endian uint32) and the payload. A writer that was killed leaves at most one torn frame at the end, which readers
leave out and the next writer cuts off; nothing before it is lost. A reader may look while a writer writes.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from houndsight.errors import WorkspaceError
from houndsight.workspace import friendly_disk_errors

HEAD = struct.Struct("<II")
LARGEST = 1 << 30  # no frame of ours is larger; a length beyond it is damage


class FrameWriter:
    """Appends frames to one file; after a fork only the process that made it writes.

    Raises `DiskFullError` or `WorkspaceError` where the file cannot be written.
    """

    def __init__(self, path: Path, kind: bytes) -> None:
        """`kind` is eight bytes, the same that the reader is given."""
        self.path = path
        self._pid = os.getpid()
        self._waiting: list[bytes] = []
        self._size = 0
        with friendly_disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                end = max((position for position, _ in frames(path, kind)), default=0)
                os.ftruncate(self._file, end)
                if end == 0:
                    os.write(self._file, kind)
            except BaseException:
                os.close(self._file)
                raise

    def add(self, payload: bytes) -> None:
        """Append one frame; it reaches the file at the next `flush`, or when a megabyte waits."""
        self._waiting += (HEAD.pack(len(payload), zlib.crc32(payload)), payload)
        self._size += len(payload)
        if self._size > 1 << 20:
            self.flush()

    def flush(self) -> None:
        """Hand every frame to the operating system: readers see it, and a killed process loses none of it."""
        if not self._waiting or os.getpid() != self._pid:
            return
        left = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        self._size = 0
        with friendly_disk_errors(self.path.parent):
            while left:
                left = left[os.write(self._file, left) :]

    def close(self) -> None:
        """Write what is left and let go of the file; more than one call is allowed."""
        if self._file >= 0:
            try:
                self.flush()
            finally:
                os.close(self._file)
                self._file = -1


def frames(path: Path, kind: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (position after the frame, its payload) for every whole frame from `start` on; at 0 first (8, b"").

    Ends before a torn frame. Raises `WorkspaceError` where the file is of another kind or version.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        if size < max(start, len(kind)):
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
            if content[: len(kind)] != kind:
                raise WorkspaceError(f"{path} is no file of the kind {kind.decode()}.", "Was it made by a newer one?")
            position = max(start, len(kind))
            if start == 0:
                yield position, b""
            while position + HEAD.size <= size:
                length, checksum = HEAD.unpack_from(content, position)
                end = position + HEAD.size + length
                if length > LARGEST or end > size:
                    return
                payload = content[position + HEAD.size : end]
                if zlib.crc32(payload) != checksum:
                    return
                yield end, payload
                position = end
