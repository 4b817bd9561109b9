"""Decode once: the squares of all images as one memory-mapped file that jobs share; between images and loader."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from houndsight.data import store
from houndsight.data.building import Building
from houndsight.data.formats import Pixels
from houndsight.data.images import centre, decode, read, square
from houndsight.data.unreadable import leave_out
from houndsight.errors import DataError, ImageError
from houndsight.spec import Index, Preprocess, SplitName
from houndsight.workspace import Progress

log = logging.getLogger("houndsight")

FORMAT_VERSION = 1
MAX_BYTES = 64 << 30
"""Room that the decoded images of one workspace may take; the least recently used go first."""


class OnTheFly:
    """The squares of `paths`, decoded when asked for: what stands in for the file where that would be too large."""

    def __init__(self, root: Path, paths: Sequence[str], preprocess: Preprocess, workers: int) -> None:
        self._root, self._paths, self._preprocess, self._workers = root, paths, preprocess, workers
        self.shape = (len(paths), preprocess.resize, preprocess.resize, 3)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: Any) -> Pixels:
        """As the file's own: a square for a number, (n, resize, resize, 3) for a slice or an array of rows.

        Further indices cut from the squares. Raises `DataError` where a file has become unreadable meanwhile.
        """
        first, *rest = rows if isinstance(rows, tuple) else (rows,)
        chosen = np.arange(len(self._paths))[first]
        if chosen.ndim == 0:
            cut: Pixels = self._one(int(chosen))[tuple(rest)]
            return cut
        with ThreadPoolExecutor(self._workers) as pool:
            made = list(pool.map(self._one, chosen.tolist()))
        squares = np.stack(made) if made else np.empty((0, *self.shape[1:]), np.uint8)
        return squares[(slice(None), *rest)]

    def _one(self, row: int) -> Pixels:
        path = self._paths[row]
        try:
            return square(decode(read(self._root / path)), self._preprocess)
        except ImageError as error:
            raise DataError(f"{path} could be read before and now cannot: {error.message}.", "Start again.") from error


@dataclass(frozen=True)
class DecodedImages:
    """The squares of an index: every image of every split, decoded, upright, `resize` x `resize`."""

    pixels: np.memmap[Any, np.dtype[np.uint8]] | OnTheFly
    """(N, resize, resize, 3) uint8, read only. `OnTheFly` answers the same indexing without a file."""
    index: Index = field(repr=False)
    """The index whose splits `rows` speaks of."""
    row_of: dict[str, int] = field(repr=False)
    """Path -> row."""
    stamp: str
    """Hash over every row's path and time of last change: what is computed from the squares is keyed by it."""

    @property
    def size(self) -> int:
        """Bytes of the squares on disk; 0 where they are not kept."""
        return self.pixels.nbytes if isinstance(self.pixels, np.memmap) else 0

    def rows(self, split: SplitName) -> npt.NDArray[np.int64]:
        """Row of each of the split's images, in the order of `Index.splits[split]`."""
        return np.array([self.row_of[path] for path in self.index.splits[split].paths], dtype=np.int64)

    def sample(self, split: SplitName, count: int, side: int) -> Pixels:
        """(n, side, side, 3): the centres of at most `count` images, evenly spread over the split and its classes."""
        rows = self.rows(split)
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
        return np.stack([centre(np.asarray(self.pixels[int(row)]), side) for row in rows[chosen]])


def decode_all(
    index: Index,
    preprocess: Preprocess,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[Index, DecodedImages]:
    """Decode every image of `index` once, or take what an earlier job decoded; two jobs at once share the work.

    Returns the index without the unreadable files (they join its `rejects`) and the squares. Where the squares would
    take more than `max_bytes` they are not kept but decoded when asked for, so that memory and disk never grow with
    the data. Raises `DataError` where more than 5 % of a split is unreadable, `DiskFullError` where there is no room.
    """
    workers = cores() if workers is None else max(1, workers)
    folder = cache / "decoded"
    what = [FORMAT_VERSION, index.fingerprint, preprocess.resize, preprocess.interpolation]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]
    root = Path(index.root)
    paths = tuple(dict.fromkeys(path for split in index.splits.values() for path in split.paths))
    building = Building(root, paths, preprocess, folder, key, keep=True)
    building.keep = len(paths) * building.row_bytes <= max_bytes
    with store.locked(folder, key):
        changed = tuple(_changed(f"{root}/{path}") for path in paths)
        table = store.find(folder, key, dict(zip(paths, changed, strict=True)))
        if table is None or (building.keep and not table.pixels):
            store.sweep(folder, key)
            _announce(building, folder, max_bytes)
            table = building.run(changed, workers, progress)
            store.sweep(folder, key)
        pixels: np.memmap[Any, np.dtype[np.uint8]] | OnTheFly
        if table.pixels:
            shape = (len(table.paths), table.side, table.side, 3)
            pixels = np.memmap(folder / table.pixels, np.uint8, "r", shape=shape)
        else:
            pixels = OnTheFly(root, table.paths, preprocess, workers)
    kept = leave_out(index, table.unreadable)
    rows = zip(table.paths, table.changed, strict=True)
    stamp = hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()
    return kept, DecodedImages(pixels, kept, {path: row for row, path in enumerate(table.paths)}, stamp)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _announce(building: Building, folder: Path, max_bytes: int) -> None:
    """Say what will be done and what it takes, and make room for it."""
    size, count = len(building.paths) * building.row_bytes, len(building.paths)
    if building.keep:
        log.info("Decoding %s images once: %.2f GB in %s.", f"{count:,}", size / 1e9, folder)
        store.make_room(folder, building.key, size, max_bytes)
    else:
        log.warning(
            "Decoded, %s images would take %.1f GB, more than the %.1f GB that are kept: they are read once now to "
            "check them and decoded again in every epoch.",
            f"{count:,}", size / 1e9, max_bytes / 1e9,
        )  # fmt: skip


def _changed(path: str) -> int:
    """Time of the last change in ns, 0 for a file that is gone."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - a path object for each of 100,000 files takes a second
    except OSError:
        return 0
