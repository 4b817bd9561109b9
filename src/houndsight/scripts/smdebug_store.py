"""What a hook of `smdebug` saved, in one folder: written by the training, read by trials, also while it is written.

Every worker has `worker_<rank>.jsonl`, one JSON object a line, told apart by its first key:

    {"format": 1, "pid": 4711, "started": 1718000000.1, "host": "ada"}                      once for each writer
    {"step": 12, "mode": "TRAIN", "mode_step": 10, "values": {"CrossEntropyLoss_output_0": [0.25, "float32"]},
     "file": "worker_0/000000000012-0.safetensors", "tensors": [...], "shapes": {...}, "reductions": {...}}
    {"collections": {...}, "workers": 1}
    {"ended": true, "steps": {"TRAIN": 11, "EVAL": 3}, "step": 14}

`step` counts all modes, `mode_step` its own. Several lines may hold parts of one step. Tensors lie beside it as
safetensors. A torn last line is left out.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from houndsight.scripts.smdebug_errors import IndexReaderException, ModeKeys
from houndsight.workspace import friendly_disk_errors

FORMAT_VERSION = 1
FOLDER = "debug-output"
"""Its name in the folder of a job, as on SageMaker."""

Array = NDArray[Any]


class StepState(Enum):
    """Where a step stands: it will never be there, it is, it may still come."""

    UNAVAILABLE = 0
    AVAILABLE = 1
    NOT_YET_AVAILABLE = 2


class Writer:
    """Appends what one worker saves; continues the numbers of an earlier run in the same folder."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder, self.worker = folder, f"worker_{rank}"
        self._file = -1
        self._parts = 0
        self._pid = os.getpid()

    def open(self) -> dict[str, int] | None:
        """Begin to write; returns the number of the last step of each mode that was written before.

        None where another process writes there already.
        """
        with friendly_disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{self.worker}.jsonl"
            known = Reader(self.folder).last_steps(self.worker) if path.is_file() else {}
            torn = path.is_file() and path.stat().st_size > 0 and _last_byte(path) != b"\n"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)
                self._file = -1
                return None
            if torn:
                os.write(self._file, b"\n")
        started = psutil.Process(self._pid).create_time()
        self._line({"format": FORMAT_VERSION, "pid": self._pid, "started": started, "host": socket.gethostname()})
        return known

    def collections(self, document: dict[str, Any], workers: int) -> None:
        """Write what is saved and when."""
        self._line({"collections": document, "workers": workers})

    def add(
        self,
        step: tuple[int, ModeKeys, int],
        values: dict[str, Array],
        reductions: dict[str, dict[str, float]],
        shapes: dict[str, list[int]],
    ) -> None:
        """Write a part of the step (number, mode, number in its mode): arrays, reductions, shapes by tensor."""
        from safetensors.numpy import save_file

        number, mode, mode_step = step
        line: dict[str, Any] = {"step": number, "mode": mode.name, "mode_step": mode_step}
        small = {name: [each.item(), str(each.dtype)] for name, each in values.items() if each.ndim == 0}
        large = {name: each for name, each in values.items() if each.ndim}
        if large:
            name = f"{self.worker}/{number:012d}-{self._parts}.safetensors"
            self._parts += 1
            with friendly_disk_errors(self.folder):
                (self.folder / self.worker).mkdir(exist_ok=True)
                save_file(large, self.folder / name)
            line |= {"file": name, "tensors": list(large)}
        found = {"values": small, "reductions": reductions, "shapes": shapes}
        self._line(line | {name: each for name, each in found.items() if each})

    def close(self, steps: dict[str, int], step: int) -> None:
        """Say that the training has ended; more than one call is allowed."""
        if self._file >= 0 and os.getpid() == self._pid:
            self._line({"ended": True, "steps": steps, "step": step})
            os.close(self._file)
        self._file = -1

    def _line(self, document: dict[str, Any]) -> None:
        if os.getpid() != self._pid:
            return  # a child has the parent's descriptor
        with friendly_disk_errors(self.folder):
            os.write(self._file, json.dumps(document).encode() + b"\n")


@dataclass
class Place:
    """Where one tensor of one step and worker is."""

    file: str | None = None
    value: Array | None = None
    shape: tuple[int, ...] | None = None
    reductions: dict[tuple[str, bool], float] = field(default_factory=dict)

    @property
    def there(self) -> bool:
        """Whether the tensor itself was saved."""
        return self.file is not None or self.value is not None


@dataclass
class Step:
    """What was saved at one step."""

    mode: ModeKeys
    mode_step: int
    tensors: dict[str, dict[str, Place]] = field(default_factory=dict)
    """Tensor -> worker -> place."""
    workers: set[str] = field(default_factory=set)


class Reader:
    """What the folder holds; `refresh` takes in what has come since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: dict[int, Step] = {}
        """Step over all modes -> what was saved."""
        self.collections: dict[str, Any] = {}
        self.workers = 1
        """How many workers write."""
        self.began = False
        """Whether a writer was there."""
        self._positions: dict[str, int] = {}
        self._living: dict[str, tuple[int, float, str] | None] = {}
        self._last: dict[str, dict[str, int]] = {}

    def refresh(self) -> None:
        """Read on; a torn last line waits for its rest."""
        for path in sorted(self.folder.glob("worker_*.jsonl")):
            worker = path.stem
            with path.open("rb") as file:
                file.seek(self._positions.get(worker, 0))
                text = file.read()
            whole = text.rfind(b"\n") + 1
            for line in text[:whole].split(b"\n"):
                if line:
                    self._take(worker, line)
            self._positions[worker] = self._positions.get(worker, 0) + whole

    def ended(self) -> bool:
        """Whether nothing more will come: every writer said so, or its process is gone."""
        return self.began and not any(_alive(each) for each in self._living.values())

    def last_steps(self, worker: str) -> dict[str, int]:
        """Mode -> number of its last step that is known; `` stands for all modes."""
        self.refresh()
        return self._last.get(worker, {})

    def load(self, place: Place, name: str) -> Array:
        """The tensor itself."""
        if place.value is not None:
            return place.value
        assert place.file is not None
        path = self.folder / place.file
        if path.resolve().parent.parent != self.folder.resolve():
            raise IndexReaderException(f"{place.file} lies outside of {self.folder}")
        try:
            with safe_open(path, framework="np") as file:
                found: Array = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise IndexReaderException(f"{name} in {path} cannot be read: {error}") from None
        return found

    def _take(self, worker: str, text: bytes) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            return  # the torn end of a writer that was killed, closed by the next one
        if "step" in line and "mode" in line:
            self._step(worker, line)
        elif "collections" in line:
            self.collections, self.workers = line["collections"], line["workers"]
        elif "format" in line:
            if line["format"] > FORMAT_VERSION:
                raise IndexReaderException(f"{self.folder} was written by a newer Houndsight.")
            self.began = True
            self._living[worker] = (line["pid"], line["started"], line["host"])
        elif "ended" in line:
            self._living[worker] = None
            self._last[worker] = {**self._last.get(worker, {}), **line["steps"], "": line["step"]}

    def _step(self, worker: str, line: dict[str, Any]) -> None:
        number, mode = line["step"], ModeKeys[line["mode"]]
        step = self.steps.setdefault(number, Step(mode, line["mode_step"]))
        step.workers.add(worker)
        last = self._last.setdefault(worker, {})
        for key, value in ((mode.name, line["mode_step"]), ("", number)):
            last[key] = max(last.get(key, -1), value)
        for name, (value, kind) in line.get("values", {}).items():
            _place(step, name, worker).value = np.array(value, kind)
        for name in line.get("tensors", ()):
            _place(step, name, worker).file = line["file"]
        for name, shape in line.get("shapes", {}).items():
            _place(step, name, worker).shape = tuple(shape)
        for name, found in line.get("reductions", {}).items():
            reductions = _place(step, name, worker).reductions
            for key, value in found.items():
                reductions[key.removeprefix("abs_"), key.startswith("abs_")] = value


def _place(step: Step, name: str, worker: str) -> Place:
    return step.tensors.setdefault(name, {}).setdefault(worker, Place())


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()


def _alive(writer: tuple[int, float, str] | None) -> bool:
    """Whether the process still runs; of another machine that cannot be known, and it is taken to."""
    if writer is None:
        return False
    pid, started, host = writer
    if host != socket.gethostname():
        return True
    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < 1.0)
    except psutil.Error:
        return False


def names_in(steps: Iterable[Step]) -> set[str]:
    """The tensors of these steps."""
    return {name for step in steps for name in step.tensors}
