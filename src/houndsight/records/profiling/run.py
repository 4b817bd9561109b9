"""Everything that was recorded about the speed of one run, read from its folder: what the rules and the verdict see."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from houndsight.records import machine as machines
from houndsight.records import timeline as timelines
from houndsight.records.machine import Machine, Series
from houndsight.records.timeline import Timeline
from houndsight.spec import Frozen

FACTS = "profiler.json"
"""Name of the file of facts in the folder of records."""
_WARM = 3  # first steps: memory is taken, kernels are chosen, workers start


class WorkerWait(Frozen):
    """How long the loop waited for the batches of one data worker."""

    worker: int
    """Number of the worker, from 0."""
    batches: int
    """Batches that came from it."""
    seconds: float
    """Waited for them."""


class Operator(Frozen):
    """One operator in a window of torch.profiler."""

    name: str
    """Such as `aten::convolution`."""
    calls: int
    """How often it ran in the window."""
    seconds: float
    """Its own time on the CPU, without the operators it called."""
    device_seconds: float = 0.0
    """Its own time on the GPU."""


class Facts(Frozen):
    """What is true of a run as a whole; `records/profiler.json`. What is not known is None and nothing is concluded."""

    format: int = 1
    """Version of this file."""
    began: float = 0.0
    """When the profiler began, seconds since the epoch."""
    ended: float = 0.0
    """When it ended."""
    own_loop: bool = False
    """Whether the loop is the user's own, watched by hooks, rather than the built-in one."""
    device: str | None = None
    """`cpu`, `cuda` or `mps`: where the model lies."""
    gpu_usable: bool | None = None
    """Whether torch could have used a GPU here."""
    workers: int | None = None
    """Data workers; 0 for none."""
    worker_kind: Literal["threads", "processes"] | None = None
    """Whether these are threads (the built-in loop) or processes (torch's DataLoader)."""
    worker_pids: tuple[int, ...] = ()
    """Their process ids."""
    worker_waits: tuple[WorkerWait, ...] = ()
    """Waiting by worker."""
    pin_memory: bool | None = None
    """Whether batches are put into pinned memory."""
    loaders: int | None = None
    """How many data loaders were iterated over."""
    batch_size: int | None = None
    """Samples a step."""
    threads: int | None = None
    """CPU threads of the arithmetic."""
    precision: str | None = None
    """Arithmetic of the network."""
    steps: int | None = None
    """Optimizer steps, where they were counted."""
    cpu: dict[str, float] = Field(default_factory=dict)
    """CPU seconds of the whole process by part of the loop."""
    thread_cpu: dict[str, float] = Field(default_factory=dict)
    """CPU seconds of the loop's own thread by part."""
    device_seconds: dict[str, float] = Field(default_factory=dict)
    """GPU seconds by part, from CUDA events."""
    flops_per_step: float | None = None
    """Floating-point operations of one step, forward and backward; a multiplication and an addition are two."""
    flop_rate: float | None = None
    """Operations a second that this machine's device does in large matrix products, measured."""
    gpu_flop_rate: float | None = None
    """The same of a GPU that was there and was not used."""
    probe: tuple[tuple[int, float], ...] = ()
    """(batch size, seconds for forward and backward), measured on random inputs after the loop."""
    operators: tuple[Operator, ...] = ()
    """Of the window of torch.profiler, the dearest first."""
    window_steps: int = 0
    """Steps in that window."""
    window_stall: float = 0.0
    """Seconds that ending the window held up the loop."""
    price_per_hour: float | None = None
    """What the machine costs."""
    instance_type: str | None = None
    """What the machine is called where it is rented."""


@dataclass(frozen=True)
class Run:
    """What was recorded about one run."""

    timeline: Timeline
    machine: Machine = field(default_factory=Machine)
    facts: Facts = field(default_factory=Facts)

    @property
    def loop(self) -> Timeline:
        """The timeline without the first steps, which are never like the others, where enough is left."""
        whole = self.timeline
        past = np.flatnonzero(np.cumsum(whole.count) >= _WARM)
        at = int(past[0]) + 1 if len(past) else 0
        if whole.steps < 2 * _WARM + 2 or at >= len(whole.count) or whole.count[at:].sum() < _WARM:
            return whole
        return Timeline(
            whole.start[at:],
            whole.step[at:],
            whole.count[at:],
            whole.parts[at:],
            whole.stages,
            whole.marks,
            whole.began,
            whole.ended,
        )

    @property
    def cores(self) -> float:
        """Cores that the training may use; 1 where nothing is known."""
        return self.machine.usable or 1.0

    @property
    def gpus(self) -> int:
        """GPUs of the machine."""
        return len(self.machine.gpus)

    def in_loop(self) -> NDArray[np.bool_]:
        """Which intervals of the machine lie in the loop, (n,)."""
        loop = self.loop
        return self.machine.within(loop.loop_began, loop.loop_ended)

    def mean(self, series: Series) -> float | None:
        """Mean of a series of the machine over the loop, weighted by time; None where it was not measured there."""
        chosen = self.in_loop() & np.isfinite(series) if len(series) else np.zeros(0, bool)
        if not chosen.any():
            return None
        return float(np.average(series[chosen], weights=self.machine.seconds[chosen]))


def read(folder: Path) -> Run:
    """Everything in `folder` (of records); a run that was killed has no facts, and what needs them abstains."""
    facts = read_facts(folder)
    return Run(timelines.read(folder, facts.steps), machines.read(folder), facts)


def read_facts(folder: Path) -> Facts:
    """The facts of the loop's own hooks where there are some, else those of the job."""
    for place in (folder / timelines.LOOP / FACTS, folder / FACTS):
        try:
            return Facts.model_validate(json.loads(place.read_bytes()))
        except FileNotFoundError:
            continue
        except (ValueError, ValidationError):
            continue  # torn by a crash: as if it were not there
    return Facts()
