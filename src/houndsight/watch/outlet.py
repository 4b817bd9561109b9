"""The debugger's side thread: takes small tables of numbers, writes them, and asks the rules; it never sees a tensor.

Scalars come from the records' writer and, where the loop settles its losses late, after the tensors of their step.
The tensors of a step wait for its loss then, so that the rules are given every step as a whole and in order.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from houndsight.records.arrays import ArrayWriter, cells
from houndsight.records.rules.history import History
from houndsight.records.rules.moment import Moment, Samples
from houndsight.records.tensors import TensorWriter
from houndsight.spec import Finding

log = logging.getLogger("houndsight")

WAKE_SECONDS = 0.5  # the longest that a scalar waits for its rules
RAW = "raw"
"""Folder of the tensors themselves, inside the folder of records."""


class Rules(Protocol):
    """What the engine of the rules is to the debugger (records/rules/engine.py)."""

    stop: bool

    @property
    def history(self) -> History:
        """What the rules remember."""
        ...

    def feed(self, moment: Moment) -> list[Finding]:
        """Take one moment, or a part of one, and return what is newly found."""
        ...

    def flush(self) -> list[Finding]:
        """Judge what waits for further parts of its step."""
        ...

    def close(self) -> list[Finding]:
        """Judge what is left and return all findings."""
        ...


@dataclass
class Saved:
    """The numbers of one saved step on their way out."""

    step: int
    mode: str
    names: tuple[str, ...] = ()
    table: Tensor | None = None
    """(T, statistics) float32 on the host, or on its way there until `ready`."""
    ready: torch.cuda.Event | None = None
    scalars: dict[str, float] = field(default_factory=dict)
    samples: Samples | None = None
    confusion: NDArray[np.int64] | None = None
    noise: Tensor | None = None
    """(2,) squared norms of the gradient of a batch and of two, on the way like the table."""
    batch: int = 0
    """Images in a batch, where `noise` is there."""
    raw: dict[str, Tensor] = field(default_factory=dict)
    """Name -> tensor, copied."""
    columns: NDArray[np.float32] | None = None
    """(n, 3) id, loss and predicted class of training images, for the store of arrays."""


class Outlet:
    """Writes what it is given from a thread of its own, in order."""

    def __init__(
        self,
        folder: Path,
        *,
        worker: int = 0,
        on_finding: Callable[[Finding], None] | None = None,
        affords: Callable[[float], bool] = lambda _: True,
    ) -> None:
        """`on_finding` is called in the side thread; losses alone are judged where `affords` says so."""
        self._affords = affords
        self._folder, self._on_finding = folder, on_finding
        self._rules: Rules | None = None
        self._writer = TensorWriter(folder, worker)
        self._arrays = ArrayWriter(folder) if worker == 0 else None
        self._queue: queue.SimpleQueue[Saved | None] = queue.SimpleQueue()
        self._heard: list[tuple[str, str, int, float]] = []
        self._waiting: list[Saved] = []
        self._frontier = -1
        self.late = False
        """Whether losses come after the tensors of their step."""
        self.seconds = 0.0
        """CPU time of the side thread."""
        self.failed: Exception | None = None
        """What ended the side thread before its time."""
        self.findings: list[Finding] = []
        """What the rules found, as they found it."""
        self._last: list[Finding] = []
        self._thread = threading.Thread(target=self._run, name="houndsight-debugger", daemon=True)

    def begin(self, rules: Rules | None) -> None:
        """Start to write, and to ask the rules where there are any."""
        self._rules = rules
        self._thread.start()

    def hear(self, name: str, mode: str, step: int, value: float) -> None:
        """Take one scalar; costs a tenth of a microsecond."""
        self._heard.append((name, mode, step, value))

    def learn(self, facts: dict[str, Any]) -> None:
        """Tell the rules what was found out about the whole training."""
        if self._rules is not None:
            self._rules.history.facts.update(facts)

    def wake(self) -> None:
        """Judge now what was heard."""
        self._queue.put(Saved(-1, "train"))

    def put(self, saved: Saved) -> None:
        """Take the numbers of a step."""
        self._queue.put(saved)

    def close(self) -> list[Finding]:
        """Write and judge what is left; returns what every rule says at the end. Raises what failed the thread."""
        if self._thread.ident is None:  # never begun
            self._writer.close()
        else:
            self._queue.put(None)
            self._thread.join()
        if self.failed is not None:
            raise self.failed
        return self._last

    def _run(self) -> None:
        try:
            while self._turn():
                self.seconds = time.thread_time()
            self._emit(everything=True)
            if self._rules is not None:
                self._tell(self._rules.flush())
                self._last = self._rules.close()
                told = [each for each in self._last if each.status == "IssuesFound" and each not in self.findings]
                self._tell(told)
        except Exception as error:  # noqa: BLE001 - raised again by `close` in the training's thread
            self.failed = error
        finally:
            self._writer.close()
            if self._arrays is not None:
                self._arrays.close()
            self.seconds = time.thread_time()

    def _turn(self) -> bool:
        """Work on what has come; False when it was told to end."""
        try:
            item = self._queue.get(timeout=WAKE_SECONDS)
        except queue.Empty:
            if self._heard:
                self._emit()
            return True
        if item is None:
            return False
        if item.ready is not None:
            item.ready.synchronize()
        if item.noise is not None:
            small, large = item.noise.tolist()
            item.scalars |= {"gradient_square_small": small, "gradient_square_large": large}
            item.scalars |= {"batch_small": float(item.batch), "batch_large": 2.0 * item.batch}
        if item.table is not None:
            values = item.table.numpy()
            self._writer.add(item.step, item.mode, item.names, values)
            self._writer.flush()
        if self._arrays is not None:
            if item.columns is not None:
                self._arrays.add("samples", item.step, item.mode, item.columns)
            if item.confusion is not None:
                true, predicted = np.nonzero(item.confusion)
                counted = np.column_stack([true, predicted, item.confusion[true, predicted]]).astype(np.int32)
                self._arrays.add("confusion", item.step, item.mode, counted)
        if item.raw:
            place = self._folder / RAW
            place.mkdir(exist_ok=True)
            safetensors.torch.save_file(item.raw, place / f"{item.mode}-{item.step:09d}.safetensors")
        if item.step >= 0:
            self._waiting.append(item)
        self._emit()
        return True

    def _emit(self, *, everything: bool = False) -> None:
        """Give the rules what is whole, in the order of steps."""
        heard, self._heard = self._heard, []
        if self._rules is None:
            self._waiting.clear()
            return
        steps: dict[tuple[int, str], dict[str, float]] = {}
        for name, mode, step, value in heard:
            steps.setdefault((step, mode), {})[name] = value
            if mode == "train" and name == "loss":
                self._frontier = max(self._frontier, step)
        ready = [
            each
            for each in self._waiting
            if everything or not self.late or each.mode != "train" or each.step <= self._frontier
        ]
        self._waiting = [each for each in self._waiting if each not in ready]
        whole: dict[tuple[int, str], list[Saved]] = {}
        for each in ready:
            whole.setdefault((each.step, each.mode), []).append(each)
        order = sorted({*steps, *whole}, key=lambda key: (key[0], key[1] != "train"))
        for key in order:
            self._judge(key, steps.get(key, {}), whole.get(key, []), last=key == order[-1])

    def _judge(self, key: tuple[int, str], scalars: dict[str, float], parts: list[Saved], *, last: bool) -> None:
        assert self._rules is not None
        step, mode = key
        moments = [
            Moment(
                step,
                mode,
                scalars=each.scalars,
                names=each.names,
                values=None if each.table is None else each.table.numpy(),
                samples=each.samples,
                confusion=each.confusion,
            )
            for each in parts
        ]
        if scalars:
            moments.insert(0, Moment(step, mode, time.time(), scalars=scalars))
        odd = any(not isfinite(value) for value in scalars.values())
        if not parts and mode == "train" and not odd and not (last and self._affords(0.0)):
            # A loss alone is remembered; the rules are asked when more has come. Asking 30 of them every
            # 0.7 ms step of a head would take longer than the step.
            self._tell(self._rules.flush())
            self._rules.history.add(moments[0])
            return
        for moment in moments:
            self._tell(self._rules.feed(moment))

    def _tell(self, found: list[Finding]) -> None:
        for finding in found:
            self.findings.append(finding)
            say = log.info if finding.severity == "info" else log.warning
            where = "" if finding.step is None else f"Step {finding.step}: "
            say("%s%s %s", where, finding.message, finding.repair)
            if self._on_finding is not None:
                self._on_finding(finding)


def confused(labels: NDArray[np.int64], guesses: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(C, C) counts; row = true class, column = predicted class."""
    counts = np.zeros((classes, classes), np.int64)
    true, predicted, count = cells(labels, guesses).T
    counts[true, predicted] = count
    return counts
