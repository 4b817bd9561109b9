"""Reads what a training saved, as `smdebug.trials` does: a trial is a folder of saved steps, a tensor a name in it."""

import logging
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from houndsight.scripts.smdebug_config import Collection, CollectionManager
from houndsight.scripts.smdebug_errors import (
    InvalidWorker,
    ModeKeys,
    NoMoreData,
    ShapeUnavailableForStep,
    SMDebugValueError,
    StepNotYetAvailable,
    StepUnavailable,
    TensorUnavailable,
    TensorUnavailableForStep,
)
from houndsight.scripts.smdebug_store import Array, Place, Reader, Step, StepState, names_in

log = logging.getLogger("houndsight")

POLL_SECONDS = 0.1
GLOBAL = ModeKeys.GLOBAL


class Trial:
    """What one training saved; every call sees what is there now, unless refreshing is off (`no_refresh`)."""

    def __init__(self, reader: Reader, name: str, range_steps: tuple[int | None, int | None] | None = None) -> None:
        """`range_steps` (first, end) leaves out all other steps, counted over all modes."""
        self.name, self.path = name, str(reader.folder)
        self.dynamic_refresh = True
        """Whether calls look for what has come since."""
        self.loaded_all_steps = False
        """Whether the training has ended and everything was read."""
        self.logger = log
        self.range_steps = range_steps
        self._reader = reader
        self._tensors: dict[str, Tensor] = {}
        self._steps: dict[int, Step] = {}
        self._by_mode: dict[ModeKeys, dict[int, int]] = {}
        self.maybe_refresh()

    def maybe_refresh(self, name: str | None = None) -> None:
        """Take in what has come since, unless nothing more can come or refreshing is off."""
        del name
        if self.loaded_all_steps or not self.dynamic_refresh:
            return
        self._reader.refresh()
        ended = self._reader.ended()
        if ended:
            self._reader.refresh()  # what was written before the writer's end and after the look above
        low, high = self.range_steps or (None, None)
        self._steps = {
            number: self._reader.steps[number]
            for number in sorted(self._reader.steps)
            if (low is None or number >= low) and (high is None or number < high)
        }
        self._by_mode = {}
        for number, step in self._steps.items():
            if step.mode is not GLOBAL:
                self._by_mode.setdefault(step.mode, {})[step.mode_step] = number
        for each in sorted(names_in(self._steps.values()) - self._tensors.keys()):
            self._tensors[each] = Tensor(each, self)
        self.loaded_all_steps = ended

    # ------------------------------------------------------------------------------------- tensors

    def tensor(self, tname: str) -> "Tensor":
        """The tensor of that name; raises `TensorUnavailable` where none was saved."""
        if not self.has_tensor(tname):
            raise TensorUnavailable(tname)
        return self._tensors[tname]

    def has_tensor(self, tname: str) -> bool:
        """Whether any step of it was saved."""
        if tname not in self._tensors:
            self.maybe_refresh()
        return tname in self._tensors

    def tensor_names(
        self,
        show_prefixed_tensors: bool = False,
        *,
        step: int | None = None,
        mode: ModeKeys = GLOBAL,
        regex: str | Iterable[str] | None = None,
        collection: str | Collection | None = None,
    ) -> list[str]:
        """The names, sorted: of a step, of a mode, that a regular expression is found in, or of a collection."""
        del show_prefixed_tensors
        if regex is not None and collection is not None:
            raise ValueError("Only one of `regex` or `collection` can be passed to this method")
        self.maybe_refresh()
        if step is not None:
            number = self.global_step(mode, step)
            steps = [self._steps[number]] if number in self._steps else []
        else:
            steps = [each for each in self._steps.values() if mode in (GLOBAL, each.mode)]
        found = names_in(steps)
        if regex is not None:
            wanted = [re.compile(each) for each in ([regex] if isinstance(regex, str) else regex)]
            found = {name for name in found if any(each.search(name) for each in wanted)}
        if collection is not None:
            held = collection if isinstance(collection, Collection) else self.collection(collection)
            found = {name for name in found if held.holds(name)}
        if not found and (regex is not None or collection is not None):
            log.warning("No tensors of %s were saved.", collection if regex is None else f"the pattern {regex}")
        return sorted(found)

    def tensors(self) -> list[str]:
        """All names."""
        return self.tensor_names()

    def inputs(self, step: int, mode: ModeKeys = GLOBAL) -> list[Array]:
        """The tensors of the collection `inputs` at a step."""
        return [
            self.tensor(each).value(step, mode) for each in self.tensor_names(step=step, mode=mode, collection="inputs")
        ]

    def labels(self, step: int, mode: ModeKeys = GLOBAL) -> list[Array]:
        """The tensors with `labels` in their names at a step."""
        return [self.tensor(each).value(step, mode) for each in self.tensor_names(step=step, mode=mode, regex="labels")]

    def predictions(self, step: int, mode: ModeKeys = GLOBAL) -> list[Array]:
        """The tensors with `predictions` in their names at a step."""
        found = self.tensor_names(step=step, mode=mode, regex="predictions")
        return [self.tensor(each).value(step, mode) for each in found]

    # ------------------------------------------------------------------------------------- steps and modes

    def steps(self, mode: ModeKeys = GLOBAL, show_incomplete_steps: bool = False) -> list[int]:
        """The steps of a mode that every worker has written; of GLOBAL those of all modes."""
        self.maybe_refresh()
        pairs = (
            [(each, each) for each in self._steps] if mode is GLOBAL else sorted(self._by_mode.get(mode, {}).items())
        )
        return [step for step, number in pairs if show_incomplete_steps or self._complete(number)]

    def _complete(self, number: int) -> bool:
        if self.loaded_all_steps or len(self._steps[number].workers) >= self.num_workers:
            return True
        return any(len(each.workers) >= self.num_workers for at, each in self._steps.items() if at > number)

    def modes(self) -> list[ModeKeys]:
        """The modes in which anything was saved, GLOBAL left out."""
        self.maybe_refresh()
        return list(self._by_mode)

    def global_step(self, mode: ModeKeys, mode_step: int) -> int | None:
        """The number over all modes of a step of that mode; None where it was not saved."""
        if mode is not GLOBAL and mode_step not in self._by_mode.get(mode, {}):
            self.maybe_refresh()
        return mode_step if mode is GLOBAL else self._by_mode.get(mode, {}).get(mode_step)

    def mode_modestep(self, global_step: int) -> tuple[ModeKeys | None, int | None]:
        """The mode of a step and its number there."""
        if global_step not in self._steps:
            self.maybe_refresh()
        found = self._steps.get(global_step)
        return (None, None) if found is None else (found.mode, found.mode_step)

    def mode_step(self, global_step: int) -> int | None:
        """The number of a step in its own mode."""
        return self.mode_modestep(global_step)[1]

    def mode(self, global_step: int) -> ModeKeys | None:
        """The mode of a step."""
        return self.mode_modestep(global_step)[0]

    def workers(self) -> list[str]:
        """Names of the workers that wrote."""
        self.maybe_refresh()
        return sorted({worker for step in self._steps.values() for worker in step.workers})

    @property
    def num_workers(self) -> int:
        """How many workers write."""
        return self._reader.workers

    def collections(self) -> dict[str, Collection]:
        """The collections of the hook by name."""
        self.maybe_refresh()
        found = {name: Collection.from_dict(each) for name, each in self._reader.collections.items()}
        known = CollectionManager(found)
        for each in known.collections.values():
            each.tensor_names |= {name for name in self._tensors if each.holds(name)}
        return known.collections

    def collection(self, coll_name: str) -> Collection:
        """The collection of that name, an empty one where the hook had none."""
        return self.collections().get(coll_name) or Collection(coll_name)

    def has_passed_step(self, step: int, mode: ModeKeys = GLOBAL) -> StepState:
        """Whether the step is there, will never be, or may still come."""
        known = self.steps(mode, show_incomplete_steps=True)
        at = bisect_left(known, step)
        if at == len(known):
            return StepState.UNAVAILABLE if self.loaded_all_steps else StepState.NOT_YET_AVAILABLE
        number = self.global_step(mode, known[at])
        assert number is not None
        if not self._complete(number):
            return StepState.NOT_YET_AVAILABLE
        return StepState.AVAILABLE if known[at] == step else StepState.UNAVAILABLE

    def wait_for_steps(self, required_steps: Iterable[int], mode: ModeKeys = GLOBAL) -> None:
        """Block until these steps are there; raises `StepUnavailable` or `NoMoreData` where one never will be."""
        with refresh(self):
            for step in required_steps:
                while (state := self.has_passed_step(step, mode)) is not StepState.AVAILABLE:
                    if state is StepState.UNAVAILABLE:
                        last = max(self.steps(mode, show_incomplete_steps=True), default=-1)
                        if self.loaded_all_steps and step > last:
                            raise NoMoreData(step, mode, last)
                        raise StepUnavailable(step, mode)
                    time.sleep(POLL_SECONDS)

    def __hash__(self) -> int:
        return hash((self.name, self.path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trial) and (self.name, self.path) == (other.name, other.path)

    def __repr__(self) -> str:
        return (
            f"<Trial object>:(\n    name={self.name},\n    path={self.path},\n    steps={self.steps()},\n"
            f"    collections={list(self.collections())},\n    tensor_names={self.tensor_names()},\n)"
        )

    def find(self, name: str, step: int, mode: ModeKeys) -> dict[str, Place]:
        """Worker -> where that tensor of that step is; empty where it is not."""
        number = self.global_step(mode, step)
        return {} if number not in self._steps else self._steps[number].tensors.get(name, {})

    def steps_of(self, name: str, mode: ModeKeys, show_incomplete_steps: bool) -> list[int]:
        """The steps of a mode in which that tensor was saved."""
        return [each for each in self.steps(mode, show_incomplete_steps) if name in self._tensors_at(each, mode)]

    def _tensors_at(self, step: int, mode: ModeKeys) -> dict[str, dict[str, Place]]:
        number = self.global_step(mode, step)
        return self._steps[number].tensors if number in self._steps else {}

    def load(self, place: Place, name: str) -> Array:
        """A tensor that was saved whole."""
        return self._reader.load(place, name)


class Tensor:
    """One tensor through the steps."""

    def __init__(self, name: str, trial: Trial) -> None:
        self.name, self.trial = name, trial

    def steps(self, mode: ModeKeys = GLOBAL, show_incomplete_steps: bool = False) -> list[int]:
        """The steps of a mode in which it was saved, in whatever form."""
        return self.trial.steps_of(self.name, mode, show_incomplete_steps)

    def value(self, step_num: int, mode: ModeKeys = GLOBAL, worker: str | None = None) -> Array:
        """The tensor itself; raises `TensorUnavailableForStep` where reductions alone, or nothing, was saved."""
        place = self._place(step_num, mode, worker)
        if not place.there:
            raise TensorUnavailableForStep(self.name, step_num, mode, bool(place.reductions))
        return self.trial.load(place, self.name)

    def values(self, mode: ModeKeys = GLOBAL, worker: str | None = None) -> dict[int, Array]:
        """Step -> the tensor itself."""
        return {step: self.value(step, mode, worker) for step in self.steps(mode)}

    def reduction_value(
        self,
        step_num: int,
        reduction_name: str,
        mode: ModeKeys = GLOBAL,
        worker: str | None = None,
        abs: bool = False,  # noqa: A002
    ) -> Any:
        """One number of it: as it was saved, else computed from the tensor."""
        place = self._place(step_num, mode, worker)
        if (reduction_name, abs) in place.reductions:
            return np.float32(place.reductions[reduction_name, abs])
        if not place.there:
            raise TensorUnavailableForStep(self.name, step_num, mode, bool(place.reductions))
        return reduction(self.trial.load(place, self.name), reduction_name, absolute=abs)

    def reduction_values(
        self, step_num: int, mode: ModeKeys = GLOBAL, worker: str | None = None
    ) -> dict[tuple[str, bool], Any]:
        """(name, whether of the magnitudes) -> number, of all that were saved."""
        return {key: np.float32(value) for key, value in self._place(step_num, mode, worker).reductions.items()}

    def shape(self, step_num: int, mode: ModeKeys = GLOBAL, worker: str | None = None) -> tuple[int, ...]:
        """Its shape; raises `ShapeUnavailableForStep` where neither it nor the shape was saved."""
        place = self._place(step_num, mode, worker)
        if place.shape is not None:
            return place.shape
        if not place.there:
            raise ShapeUnavailableForStep(self.name, step_num, mode)
        return self.trial.load(place, self.name).shape

    def workers(self, step_num: int, mode: ModeKeys = GLOBAL) -> list[str]:
        """The workers that saved it at that step."""
        found = self.trial.find(self.name, step_num, mode)
        if not found:
            raise TensorUnavailableForStep(self.name, step_num, mode)
        return sorted(found)

    def prev_steps(self, step: int, n: int | None = None, mode: ModeKeys = GLOBAL) -> list[int]:
        """The last `n` of its steps up to and with `step`; all of them without `n`."""
        steps = self.steps(mode)
        before = steps[: bisect_right(steps, step)]
        return before[-n:] if n else before

    def _place(self, step: int, mode: ModeKeys, worker: str | None) -> Place:
        trial = self.trial
        found = trial.find(self.name, step, mode)
        if not found:
            trial.maybe_refresh()
            found = trial.find(self.name, step, mode)
        if found:
            if worker is not None and worker not in found:
                raise InvalidWorker(worker)
            return found[min(found) if worker is None else worker]
        state = trial.has_passed_step(step, mode)
        if state is StepState.AVAILABLE:
            raise TensorUnavailableForStep(self.name, step, mode)
        last = max(trial.steps(mode, show_incomplete_steps=True), default=-1)
        if trial.loaded_all_steps and step > last:
            raise NoMoreData(step, mode, last)
        if state is StepState.UNAVAILABLE:
            raise StepUnavailable(step, mode)
        raise StepNotYetAvailable(step, mode)

    def __repr__(self) -> str:
        return f"<smdebug tensor {self.name}>"


def reduction(values: Array, name: str, *, absolute: bool = False) -> Any:
    """One number of an array, as numpy computes it (`std` and `variance` with n)."""
    values = np.abs(values) if absolute else values
    if name in ("l1", "l2"):
        return np.linalg.norm(values.reshape(-1).astype(np.result_type(values, np.float32)), int(name[1]))
    functions: dict[str, Callable[[Array], Any]] = {
        "min": np.min,
        "max": np.max,
        "mean": np.mean,
        "std": np.std,
        "sum": np.sum,
        "prod": np.prod,
    }
    if name != "variance" and name not in functions:
        raise SMDebugValueError(f"Invalid reduction type {name}")
    return np.var(values) if name == "variance" else functions[name](values)


@contextmanager
def no_refresh(trials: Trial | list[Trial]) -> Iterator[Any]:
    """Inside it the trials stay as they are."""
    yield from _refreshing(trials, on=False)


@contextmanager
def refresh(trials: Trial | list[Trial]) -> Iterator[Any]:
    """Inside it the trials see what has come since."""
    yield from _refreshing(trials, on=True)


def _refreshing(trials: Trial | list[Trial], *, on: bool) -> Iterator[Any]:
    listed = trials if isinstance(trials, list) else [trials]
    before = [each.dynamic_refresh for each in listed]
    for each in listed:
        each.dynamic_refresh = on
    try:
        yield trials
    finally:
        for each, was in zip(listed, before, strict=True):
            each.dynamic_refresh = was
