"""The profiler of a job: starts the sampler beside it, and at its end says what limited its speed."""

import gc
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from houndsight.errors import HoundsightError
from houndsight.folders import JobFolder
from houndsight.records import timeline
from houndsight.records.profiling import run as runs
from houndsight.records.profiling.document import document, write_sagemaker
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, ScriptSpec
from houndsight.watch.sampler import Sampler
from houndsight.workspace import friendly_disk_errors, write_json

_PAUSE = 0.002
"""Shorter pauses of the garbage collector are not recorded: a hundred of them a second would cost more than they."""
_MOST_PAUSES = 100_000


@contextmanager
def profiled(job: JobFolder, records: RecordWriter, *, interval: float = 0.5) -> Iterator[None]:
    """Sample the machine while a job runs, and write `profile.json` and SageMaker's rule reports when it ends.

    A job that fails has its profile, too, and its own error is the one that is raised.
    """
    began = time.time()
    sampler = Sampler(job.records, interval)
    try:
        with pauses(records):
            yield
    except BaseException:
        with suppress(HoundsightError):
            _conclude(job, records, sampler, began)
        raise
    _conclude(job, records, sampler, began)


def _conclude(job: JobFolder, records: RecordWriter, sampler: Sampler, began: float) -> None:
    sampler.stop()
    records.flush()
    write_json(job.records / runs.FACTS, runs.Facts(began=began, ended=time.time(), **_facts(job)))
    conclude(job.records, job.profile, job.rule_output)


def conclude(records: Path, profile: Path, rule_output: Path | None) -> None:
    """Write what the records in that folder say about speed."""
    run = runs.read(records)
    with friendly_disk_errors(profile.parent):
        write_json(profile, document(run))
        if rule_output is not None:
            write_sagemaker(rule_output, run)


def _facts(job: JobFolder) -> dict[str, Any]:
    """What a job's spec and plan say about how it ran."""
    if json.loads(job.spec.read_bytes()).get("kind") == "script":
        return {"own_loop": True, "instance_type": ScriptSpec.read(job.spec).instance_type}
    return classifier_facts(ClassifierSpec.read(job.plan)) if job.plan.is_file() else {}


def classifier_facts(spec: ClassifierSpec) -> dict[str, Any]:
    """What a complete spec says about how the built-in loop runs here."""
    import torch

    from houndsight.data.cache import cores

    gpu = torch.cuda.is_available()
    found = "cuda" if gpu else "mps" if torch.backends.mps.is_available() else "cpu"
    return {
        "device": found if spec.device == "auto" else spec.device,
        "gpu_usable": gpu,
        "batch_size": spec.batch_size,
        "workers": cores() if spec.workers is None else spec.workers,
        "worker_kind": "threads",
        "threads": spec.threads or torch.get_num_threads(),
        "precision": spec.precision,
    }


@contextmanager
def pauses(records: RecordWriter) -> Iterator[None]:
    """Record the pauses of Python's garbage collector in this thread as marks over the other spans, at the end.

    Not at once: a collection may begin while the writer of the records holds its lock.
    """
    seen: list[tuple[float, float]] = []
    began = 0.0
    thread = threading.get_ident()

    def noted(phase: str, _: dict[str, int]) -> None:
        nonlocal began
        if threading.get_ident() != thread:
            return
        if phase == "start":
            began = time.perf_counter()
        elif time.perf_counter() - began >= _PAUSE and len(seen) < _MOST_PAUSES:
            seen.append((time.time(), time.perf_counter() - began))

    gc.callbacks.append(noted)
    try:
        yield
    finally:
        gc.callbacks.remove(noted)
        for ended, seconds in seen:
            records.add_span(timeline.GC, ended - seconds, seconds, 0)
