"""Arrays by name, mode and step, in one append-only file: samples' losses and confusions; between loop and rules.

`arrays.bin` holds checked frames (records/frames.py). Names: `samples` (n, 3) float32, one row a training image with
its id, its loss and the predicted class, once an epoch; `confusion` (k, 3) int32, the cells that are not zero as (true
class, predicted class, count), once an epoch of mode `train` and once a validation of mode `valid`.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from houndsight.records.frames import FrameWriter, frames

FILE = "arrays.bin"
_KIND = b"HSARRA01"


class ArrayWriter:
    """Appends arrays; each is handed to the operating system at once."""

    def __init__(self, folder: Path) -> None:
        self._frames = FrameWriter(folder / FILE, _KIND)

    def add(self, name: str, step: int, mode: str, array: NDArray[np.generic]) -> None:
        """Append one array of numbers."""
        head = {"name": name, "step": step, "mode": mode, "dtype": array.dtype.str, "shape": array.shape}
        text = json.dumps(head).encode()
        self._frames.add(len(text).to_bytes(4, "little") + text + array.tobytes())
        self._frames.flush()

    def close(self) -> None:
        """Let go of the file."""
        self._frames.close()


def read_arrays(folder: Path, name: str, mode: str = "train") -> list[tuple[int, NDArray[np.generic]]]:
    """(step, array) of that name and mode, by step; of a repeated step the one written last."""
    found: dict[int, NDArray[np.generic]] = {}
    for _, payload in frames(folder / FILE, _KIND):
        if len(payload):
            size = int.from_bytes(payload[:4], "little")
            head = json.loads(payload[4 : 4 + size])
            if (head["name"], head["mode"]) == (name, mode):
                numbers = np.frombuffer(payload[4 + size :], np.dtype(head["dtype"]))
                found[head["step"]] = numbers.reshape(head["shape"])
    return sorted(found.items(), key=lambda each: each[0])


def confusion(cells: NDArray[np.generic], classes: int) -> NDArray[np.int64]:
    """The (classes, classes) counts that such cells describe; row = true class, column = predicted class."""
    counts = np.zeros((classes, classes), np.int64)
    true, predicted, count = np.asarray(cells, np.int64).reshape(-1, 3).T
    np.add.at(counts, (true, predicted), count)
    return counts


def cells(true: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.int32]:
    """The cells (k, 3) of the confusion of these labels and guesses that are not zero."""
    pairs, counts = np.unique(np.stack([true, predicted], axis=1), axis=0, return_counts=True)
    return np.column_stack([pairs, counts]).astype(np.int32)
