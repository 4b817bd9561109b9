"""What the debugger saw of a job, in Python: `houndsight.open_job(name).debug`; also while the job runs."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from houndsight.backends import base
from houndsight.errors import SpecError, did_you_mean
from houndsight.folders import JobFolder
from houndsight.records.facts import read_facts
from houndsight.records.tensors import STATISTICS, TensorRecords, TensorStep
from houndsight.reports import curves
from houndsight.spec import FINAL_STATES
from houndsight.watch.plan import BUILT_IN, Collection
from houndsight.workspace import atomic_write

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class JobTensors:
    """The tensors of one worker of a job; holds nothing but the folder, so every call sees what is there now."""

    files: JobFolder
    worker: int = 0
    """Which worker of a distributed training."""

    @property
    def records(self) -> TensorRecords:
        """The store behind it."""
        return TensorRecords(self.files.records, self.worker)

    @property
    def facts(self) -> dict[str, Any]:
        """What is true of the whole run: parameters, modules, optimizer, classes, the debugger's own cost."""
        return read_facts(self.files.records)

    def workers(self) -> list[int]:
        """The workers that wrote something."""
        found = [0] if (self.files.records / "tensors.bin").is_file() else []
        return found + sorted(int(each.stem.partition("-")[2]) for each in self.files.records.glob("tensors-*.bin"))

    def of(self, worker: int) -> "JobTensors":
        """What another worker wrote."""
        return JobTensors(self.files, worker)

    def collections(self) -> dict[str, Collection]:
        """The built-in collections, and those that the run was given."""
        given = self.facts.get("debugger", {}).get("collections", {})
        return {**BUILT_IN, **{name: Collection.model_validate(each) for name, each in given.items()}}

    def modes(self) -> list[str]:
        """The modes in which something was saved."""
        return self.records.modes()

    def names(self, regex: str | None = None, *, collection: str | None = None, mode: str | None = None) -> list[str]:
        """Names of tensors, by regular expression or collection.

        The expression is searched in the name (`gradient/layer4.conv.weight`) and in the name the other way round
        (`layer4.conv.weight/gradient`), so `layer4.*grad` finds it. Raises `SpecError` for an expression that is none,
        and for a collection that is not there.
        """
        found = self.records.names(mode=mode)
        if collection is not None:
            known = self.collections()
            if collection not in known:
                raise SpecError(f"There is no collection '{collection}'.", did_you_mean(collection, known))
            found = [name for name in found if known[collection].holds(name)]
        if regex is not None:
            try:
                pattern = re.compile(regex)
            except re.error as error:
                raise SpecError(f"'{regex}' is no regular expression: {error}.") from None
            found = [name for name in found if pattern.search(name) or pattern.search(_turned(name))]
        return found

    def steps(self, name: str | None = None, *, mode: str = "train") -> list[int]:
        """The saved steps of a mode, or those at which one tensor was saved."""
        return [int(each) for each in self.records.steps(name, mode)]

    def values(
        self, name: str, statistic: str = "l2", *, mode: str = "train"
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Steps (n,) and values (n,) of one statistic of one tensor."""
        self._check(name, statistic)
        return self.records.curve(name, statistic, mode)

    def statistics(self, name: str, step: int, *, mode: str = "train") -> dict[str, float]:
        """All statistics of a tensor at one step; empty where it was not saved then."""
        self._check(name)
        return self.records.at(step, mode).get(name, {})

    def value(self, name: str, step: int, *, mode: str = "train") -> NDArray[np.generic] | None:
        """The tensor itself, where it was asked for with `raw`; None where only statistics were saved."""
        import safetensors.numpy

        self._check(name)
        path = self.files.records / "raw" / f"{mode}-{step:09d}.safetensors"
        found: NDArray[np.generic] | None = safetensors.numpy.load_file(path).get(name) if path.is_file() else None
        return found

    def to_pandas(self, regex: str | None = None) -> "pd.DataFrame":
        """All statistics as a table: name, mode, step, time, and one column a statistic."""
        return self.records.to_pandas(regex)

    def wait_for(self, step: int, *, mode: str = "train") -> TensorStep | None:
        """Block until that step or a later one is saved; None where the job ended before."""
        with self._ended() as stop:
            return self.records.wait_for(step, mode, stop)

    def follow(self) -> Iterator[TensorStep]:
        """Yield every saved step, and new ones as they come, until the job has ended."""
        with self._ended() as stop:
            yield from self.records.follow(stop)

    def plot(self, regex: str, statistic: str = "l2", *, mode: str = "train") -> str:
        """Draw the curves of the tensors that `regex` finds into the job's folder; returns the path of the picture.

        Raises `SpecError` where it finds none, or nothing was saved at all.
        """
        names = self.names(regex, mode=mode)
        self._check(names[0] if names else None, statistic)
        drawn = [(name, *self.records.curve(name, statistic, mode)) for name in names]
        drawn = [each for each in drawn if len(each[1])]
        if not drawn:
            known = self.names(mode=mode)
            raise SpecError(
                f"No tensor of '{self.files.name}' with {statistic} matches '{regex}'.",
                f"There are {len(known)}, such as {', '.join(known[:3])}." if known else "Nothing was saved.",
            )
        path = self.files.tensors_picture
        with atomic_write(path, "w") as file:
            file.write(curves.draw(f"{self.files.name}: {statistic} of {regex} ({mode})", drawn))
        return str(path)

    def _check(self, name: str | None, statistic: str | None = None) -> None:
        if statistic is not None and statistic not in STATISTICS:
            raise SpecError(f"There is no statistic '{statistic}'.", f"Choose one of {', '.join(STATISTICS)}.")
        if name is not None and name not in (known := self.records.names()):
            raise SpecError(f"There is no tensor '{name}'.", did_you_mean(name, known))

    def _ended(self) -> "_Ended":
        return _Ended(self.files)


class _Ended:
    """A flag that is set when the job has ended."""

    def __init__(self, files: JobFolder) -> None:
        self._files, self._flag, self._left = files, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> threading.Event:
        self._thread.start()
        return self._flag

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._left.is_set():
            if base.status(self._files).state in FINAL_STATES:
                self._flag.set()
                return
            self._left.wait(0.25)


def _turned(name: str) -> str:
    kind, _, rest = name.partition("/")
    return f"{rest}/{kind}"
