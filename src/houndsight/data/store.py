"""The folder of decoded images: who may write, what is there and still true, what has to go; beneath `cache`.

<cache>/decoded/<key>.json          what the file of squares holds, row by row; replaced in one step, last
<cache>/decoded/<key>-<hex>.pixels  (N, resize, resize, 3) uint8; read only when the JSON beside it names it
<cache>/decoded/<key>.lock          held while one of them is written or removed; a killed holder lets go of it
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from houndsight.errors import DiskFullError, SpecError
from houndsight.spec import Frozen
from houndsight.workspace import friendly_disk_errors

log = logging.getLogger("houndsight")

_RESERVE = 64 << 20


class Table(Frozen):
    """What a file of decoded squares holds."""

    pixels: str
    """Name of the file beside this one; empty where the squares are not kept."""
    side: int
    """Height and width of each square, in pixels."""
    paths: tuple[str, ...]
    """Path of each row."""
    changed: tuple[int, ...]
    """Time of the last change of each row's file, in ns: a file that was replaced is decoded again."""
    unreadable: dict[str, str]
    """Path -> reason of the rows that hold nothing."""

    @property
    def size(self) -> int:
        """Bytes of the squares."""
        return len(self.paths) * self.side * self.side * 3


@contextmanager
def locked(folder: Path, key: str) -> Iterator[None]:
    """Hold the key; another process that holds it is waited for, one that was killed does not hold it any more."""
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _try(handle):
            log.info("Another process is decoding the same images; waiting for it.")
            flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def find(folder: Path, key: str, wanted: Mapping[str, int]) -> Table | None:
    """The table of `key` where it still holds every wanted path as it was last changed, else None."""
    place = folder / f"{key}.json"
    try:
        table = Table.read(place)
        if table.pixels and (folder / table.pixels).stat().st_size != table.size:
            return None
    except (FileNotFoundError, SpecError):
        return None
    held = dict(zip(table.paths, table.changed, strict=True))
    if any(held.get(path) != changed for path, changed in wanted.items()):
        return None
    with friendly_disk_errors(folder):
        os.utime(place)
    return table


def sweep(folder: Path, key: str) -> None:
    """Remove what a killed or replaced build of `key` left; only for the holder of its lock."""
    try:
        named = Table.read(folder / f"{key}.json").pixels
    except (FileNotFoundError, SpecError):
        named = ""
    leavings = [*folder.glob(f"{key}-*.pixels"), *folder.glob(f".{key}.json.*")]
    for each in leavings:
        if each.name != named:
            each.unlink(missing_ok=True)


def make_room(folder: Path, key: str, size: int, max_bytes: int) -> None:
    """Remove the least recently used files of other keys until `size` more bytes fit `max_bytes` and the disk.

    Raises `DiskFullError` where the disk has no room even then. Files that a job has mapped stay readable to it.
    """
    others = sorted((each for each in folder.glob("*.json") if each.stem != key), key=lambda each: each.stat().st_mtime)
    for lock in folder.glob("*.lock"):
        if lock.stem != key:
            _remove(folder, lock.stem, only_leavings=True)
    for each in others:
        used = sum(pixels.stat().st_size for pixels in folder.glob("*.pixels"))
        if used + size <= max_bytes and size + _RESERVE <= shutil.disk_usage(folder).free:
            return
        _remove(folder, each.stem, only_leavings=False)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DiskFullError(
            f"The decoded images need {size / 1e9:,.2f} GB and {folder} has {free / 1e9:,.2f} GB free.",
            "Free some space, or choose another disk with --workspace.",
        )


def _remove(folder: Path, key: str, *, only_leavings: bool) -> None:
    """Remove the files of a key unless a process is busy with it."""
    handle = os.open(folder / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if _try(handle):
            if not only_leavings:
                log.info("Decoded images of an earlier job are removed to make room: %s.", folder / key)
                (folder / f"{key}.json").unlink(missing_ok=True)
            sweep(folder, key)
    finally:
        os.close(handle)
