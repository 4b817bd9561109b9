"""What the machine did and how long steps took, as `smdebug`'s readers give it: events made from a job's records."""

import logging
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from houndsight.backends import base
from houndsight.records import machine as machines
from houndsight.records.profiling import run as runs
from houndsight.scripts.smdebug_errors import NoMoreProfilerData, SMDebugError
from houndsight.scripts.smdebug_sources import job_at
from houndsight.scripts.smdebug_trial import POLL_SECONDS
from houndsight.spec import FINAL_STATES

log = logging.getLogger("houndsight")

NODE = "algo-1"
PARTS = {
    "data": "DataLoaderIter",
    "copy": "CopyToDevice",
    "forward": "Forward",
    "backward": "Backward(post-forward)",
    "optimizer": "Optimizer",
    "checkpoint": "Checkpoint",
    "evaluate": "Evaluate",
}
"""Part of a step -> name of its events."""


class TimeUnits(Enum):
    """What a time is counted in, from the epoch."""

    SECONDS = 1
    MILLISECONDS = 2
    MICROSECONDS = 3
    NANOSECONDS = 4


_SECONDS = {TimeUnits.SECONDS: 1.0, TimeUnits.MILLISECONDS: 1e-3, TimeUnits.MICROSECONDS: 1e-6}


def seconds(given: float, unit: TimeUnits) -> float:
    """That time in seconds."""
    return given * _SECONDS.get(unit, 1e-9)


@dataclass(frozen=True)
class ProfilerSystemEvents:
    """One number of one sample."""

    timestamp: float
    """Seconds since the epoch."""
    name: str
    """Which core or GPU, or what is counted."""
    dimension: str
    """CPUUtilization, GPUUtilization, GPUMemoryUtilization, MemoryUsedPercent, I/OWaitPercentage, Algorithm."""
    value: float
    """Percent; of `Algorithm` bytes a second over the network."""
    type: str
    """`cpu`, `gpu`, `memory` or `network`."""
    node_id: str = NODE
    """The machine."""


@dataclass(frozen=True)
class TraceEvent:
    """One stretch of a step."""

    event_name: str
    """`Step:ModeKeys.TRAIN`, or one of its parts."""
    start_time: float
    """Microseconds since the epoch."""
    duration: float
    """Microseconds."""
    event_args: dict[str, Any] = field(default_factory=dict)
    """`step_num`, as text."""
    node_id: str = NODE
    """The machine."""
    pid: int = 0
    """The process; not known."""
    tid: int = 0
    """The thread; not known."""

    @property
    def end_time(self) -> float:
        """Microseconds since the epoch."""
        return self.start_time + self.duration

    @property
    def event_phase(self) -> str:
        """What it belongs to."""
        return self.event_name


class _Reader:
    """What lies below a job's records."""

    def __init__(self, path: str, use_in_memory_cache: bool = False) -> None:
        """`path` is a job's name or folder, anything inside of it, an s3 address with it, or a folder of records."""
        del use_in_memory_cache
        self.job = job_at(str(path))
        self.path = str(path)
        self.folder = Path(path) if self.job is None else self.job.records

    def refresh_event_file_list(self) -> None:
        """Nothing: every call reads what is there now."""

    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.job is None or base.status(self.job).state in FINAL_STATES


class SystemMetricsReader(_Reader):
    """What the machine did while a job ran."""

    def get_events(
        self,
        start_time: float,
        end_time: float,
        unit: TimeUnits = TimeUnits.MICROSECONDS,
        event_type: str | None = None,
        file_suffix_filter: Any = None,
    ) -> list[ProfilerSystemEvents]:
        """The events between two times, of one type (`cpu`, `gpu`, ...) or of all."""
        del file_suffix_filter
        low, high = seconds(start_time, unit), seconds(end_time, unit)
        return [
            each for each in self._events() if low <= each.timestamp <= high and event_type in (None, "all", each.type)
        ]

    def get_timestamp_of_first_available_file(self) -> int:
        """Microseconds since the epoch of the first event; 0 where there is none."""
        found = machines.read(self.folder).time
        return int(1e6 * found[0]) if len(found) else 0

    def get_timestamp_of_latest_available_file(self) -> int:
        """Microseconds since the epoch of the last event, rounded up; 0 where there is none."""
        found = machines.read(self.folder).time
        return int(1e6 * found[-1]) + 1 if len(found) else 0

    def _events(self) -> list[ProfilerSystemEvents]:
        seen = machines.read(self.folder)
        columns: list[tuple[str, str, str, Any]] = []
        columns += [(f"cpu{at}", "CPUUtilization", "cpu", 100 * seen.cpu[:, at]) for at in range(seen.cpu.shape[1])]
        columns += [
            (f"cpu{at}", "I/OWaitPercentage", "cpu", 100 * seen.iowait[:, at]) for at in range(seen.iowait.shape[1])
        ]
        for at, gpu in enumerate(seen.gpus):
            columns.append((f"gpu{at}", "GPUUtilization", "gpu", seen.of_gpus("utilisation")[:, at]))
            used = 100 * seen.of_gpus("memory_used")[:, at] / gpu["memory"]
            columns.append((f"gpu{at}", "GPUMemoryUtilization", "gpu", used))
        if seen.memory:
            columns.append(("MemoryUsedPercent", "Memory", "memory", 100 * (1 - seen.available / seen.memory)))
            columns += [
                (name, "Algorithm", "network", seen.net[:, at])
                for at, name in enumerate(("ReceivedBytesPerSecond", "SentBytesPerSecond"))
            ]
        return [
            ProfilerSystemEvents(when, name, dimension, value, kind)
            for name, dimension, kind, values in columns
            for when, value in zip(seen.time.tolist(), values.tolist(), strict=True)
            if np.isfinite(value)
        ]


class AlgorithmMetricsReader(_Reader):
    """The steps of a job's training; steps too short to be told apart share their time equally."""

    def get_events(
        self,
        start_time: float,
        end_time: float,
        unit: TimeUnits = TimeUnits.MICROSECONDS,
        event_type: str | None = None,
        file_suffix_filter: Any = None,
    ) -> list[TraceEvent]:
        """The events that begin between two times."""
        del event_type, file_suffix_filter
        low, high = 1e6 * seconds(start_time, unit), 1e6 * seconds(end_time, unit)
        return [each for each in self._events() if low <= each.start_time <= high]

    def get_events_by_step(self, start_step: int, end_step: int, *_given: Any, **_named: Any) -> list[TraceEvent]:
        """The events of steps `start_step` to `end_step`, the last one left out."""
        return [each for each in self._events() if start_step <= int(each.event_args["step_num"]) < end_step]

    def get_timestamp_of_first_available_file(self) -> int:
        """Microseconds since the epoch of the first event; 0 where there is none."""
        return int(min((each.start_time for each in self._events()), default=0))

    def get_timestamp_of_latest_available_file(self) -> int:
        """Microseconds since the epoch at which the last event ended; 0 where there is none."""
        return int(max((each.end_time + 1 for each in self._events()), default=0))

    def _events(self) -> list[TraceEvent]:
        seen = runs.read(self.folder).timeline
        found: list[TraceEvent] = []
        own = seen.parts.sum(axis=1) - seen.column("evaluate") - seen.column("checkpoint")
        own[-1:] -= seen.column("rest")[-1:]  # what follows the last step is none
        for at, count in enumerate(seen.count.tolist()):
            start, number = 1e6 * float(seen.start[at]), int(seen.step[at])
            length = 1e6 * float(own[at]) / max(1, count)
            name = "Step:ModeKeys.TRAIN"
            found += [_event(name, start + each * length, length, number + each) for each in range(count)]
            for part, name in PARTS.items():
                spent = 1e6 * float(seen.column(part)[at])
                if spent > 0:
                    found.append(_event(name, start, spent, number))
                    start += spent
        return sorted(found, key=lambda each: each.start_time)


LocalSystemMetricsReader = S3SystemMetricsReader = SystemMetricsReader
LocalAlgorithmMetricsReader = S3AlgorithmMetricsReader = AlgorithmMetricsReader


def _event(name: str, start: float, length: float, step: int) -> TraceEvent:
    return TraceEvent(name, start, length, {"step_num": str(step)})


class TrainingJob:
    """A job by its name, for those who look at its profile."""

    def __init__(self, training_job_name: str, region: str | None = None) -> None:
        """Raises `SMDebugError` where the workspace has no such job."""
        del region
        self.name = training_job_name
        found = job_at(str(training_job_name))
        if found is None:
            raise SMDebugError(f"There is no job {training_job_name} in the workspace; `houndsight jobs` lists them.")
        self.job = found
        self.profiler_s3_output_path = str(found.path)
        self.profiler_config = {"S3OutputPath": str(found.path)}
        self.system_metrics_reader: SystemMetricsReader | None = None
        self.framework_metrics_reader: AlgorithmMetricsReader | None = None

    def wait_for_sys_profiling_data_to_be_available(self) -> None:
        """Wait until the machine was sampled twice; raises `NoMoreProfilerData` where the job ended before."""
        reader = self.system_metrics_reader = SystemMetricsReader(str(self.job.path))
        _wait(reader)

    def wait_for_framework_profiling_data_to_be_available(self) -> None:
        """Wait until a step was timed; raises `NoMoreProfilerData` where the job ended before."""
        reader = self.framework_metrics_reader = AlgorithmMetricsReader(str(self.job.path))
        _wait(reader)

    def get_systems_metrics_reader(self) -> SystemMetricsReader | None:
        """The reader of what the machine did; None before it was waited for."""
        return self.system_metrics_reader

    def get_framework_metrics_reader(self) -> AlgorithmMetricsReader | None:
        """The reader of the steps; None before it was waited for."""
        return self.framework_metrics_reader

    def get_config_and_profiler_s3_output_path(self) -> tuple[dict[str, str], str]:
        """Where the job is."""
        return self.profiler_config, self.profiler_s3_output_path

    def describe_training_job(self) -> dict[str, Any]:
        """Name and state, in SageMaker's words."""
        now = base.status(self.job)
        words = {"COMPLETED": "Completed", "FAILED": "Failed", "STOPPED": "Stopped", "STOPPING": "Stopping"}
        state = words.get(now.state, "InProgress")
        second = {"InProgress": "Training" if now.state == "RUNNING" else "Starting"}.get(state, state)
        return {
            "TrainingJobName": self.job.name,
            "TrainingJobStatus": state,
            "SecondaryStatus": second,
            "ProfilerConfig": self.profiler_config,
        }


def _wait(reader: SystemMetricsReader | AlgorithmMetricsReader) -> None:
    while True:
        ended = reader.ended()
        if reader.get_timestamp_of_latest_available_file():
            log.info("Profiler data is available.")
            return
        if ended:
            raise NoMoreProfilerData(0)
        time.sleep(POLL_SECONDS)


def str2bool(v: Any) -> bool:
    """What a person means by yes, no, on, 0, ... Raises `ValueError` for anything else."""
    if isinstance(v, bool):
        return v
    word = str(v).strip().lower()
    if re.fullmatch("y|yes|t|true|on|1", word):
        return True
    if re.fullmatch("n|no|f|false|off|0", word):
        return False
    raise ValueError(f"invalid truth value {v!r}")


def us_since_epoch_to_human_readable_time(us_since_epoch: float) -> str:
    """A time of the day in UTC."""
    return datetime.fromtimestamp(us_since_epoch / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S:%f")
