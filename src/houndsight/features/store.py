"""The folder of cached features: one .npy file a key, written whole or not at all; beneath `extract`.

<cache>/features/<key>.npy         float32, memory-mapped by every job that reads it
<cache>/features/<key>.lock        held while it is written; a killed holder lets go of it
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from houndsight.data.store import locked
from houndsight.errors import DiskFullError
from houndsight.workspace import atomic_write, friendly_disk_errors

MAX_BYTES = 32 << 30
"""Room that the features of one workspace may take; the least recently used go first."""


def cached(
    folder: Path, key: str, shape: tuple[int, ...], fill: Callable[[NDArray[np.float32]], None]
) -> NDArray[np.float32]:
    """The array of `key`, memory-mapped and read only; made by `fill` where no job has made it yet.

    Two processes at once make it once. Raises `DiskFullError` where there is no room.
    """
    place = folder / f"{key}.npy"
    with locked(folder, key):
        found = _whole(place, shape)
        if found is None:
            _make_room(folder, place, 4 * int(np.prod(shape)))
            with atomic_write(place, "w+b") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
                start = file.tell()
                file.truncate(start + 4 * int(np.prod(shape)))
                array = np.memmap(file, "<f4", "r+", offset=start, shape=shape)
                fill(array)
                array.flush()
            found = _whole(place, shape)
    assert found is not None, "just written"
    return found


def _whole(place: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    try:
        found: NDArray[np.float32] = np.load(place, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):  # EOFError: an empty file
        return None
    if found.shape != shape or found.dtype != np.float32:
        return None
    place.touch()
    return found


def _make_room(folder: Path, place: Path, size: int) -> None:
    """Remove stale leavings, then the least recently used arrays, until `size` more bytes fit."""
    with friendly_disk_errors(folder):
        for leaving in folder.glob(f".{place.name}.*"):
            leaving.unlink(missing_ok=True)
        others = sorted(folder.glob("*.npy"), key=lambda each: each.stat().st_mtime)
        used = sum(each.stat().st_size for each in others)
        while others and (used + size > MAX_BYTES or shutil.disk_usage(folder).free < size):
            oldest = others.pop(0)
            used -= oldest.stat().st_size
            oldest.unlink(missing_ok=True)
        free = shutil.disk_usage(folder).free
    if size > free:
        raise DiskFullError(
            f"The features need {size / 1e9:,.2f} GB and {folder} has {free / 1e9:,.2f} GB free.",
            "Free some space, or choose another disk with --workspace.",
        )
