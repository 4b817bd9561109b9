"""The profiler of a job: starts the sampler beside it, and at its end says what limited its speed."""

import gc
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from houndsight.errors import HoundsightError
from houndsight.folders import JobFolder
from houndsight.records import timeline
from houndsight.records.profiling import rules
from houndsight.records.profiling import run as runs
from houndsight.records.profiling.document import document, write_sagemaker
from houndsight.records.rules.named import Named, named
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec, ScriptSpec
from houndsight.watch.sampler import Sampler
from houndsight.workspace import Progress, friendly_disk_errors, write_json

if TYPE_CHECKING:
    from houndsight.data.loader import Batches
    from houndsight.models.network import Network
    from houndsight.watch.window import Window

_PAUSE = 0.002
"""Shorter pauses of the garbage collector are not recorded: a hundred of them a second would cost more than they."""
_MOST_PAUSES = 100_000
_LOOK_AFTER = 60.0  # seconds; looking takes some 0.5


class JobProfiler:
    """What a job tells its profiler while it runs."""

    def __init__(self, job: JobFolder, records: RecordWriter) -> None:
        self._cache, self._records = job.path.parent.parent / "cache", records
        self._window: Window | None = None
        self._looked: dict[str, Any] = {}
        self._began = time.time()

    def watching(self, progress: Progress) -> Progress:
        """`progress`, told after every step of the loop, which also opens and closes the window of torch.profiler."""
        from houndsight.watch.window import Window

        self._window = window = Window(self._records)

        def told(stage: str, done: int, total: int) -> None:
            progress(stage, done, total)
            if stage == "train":
                window.step()

        return told

    def look(self, network: "Network", batches: "Batches", batch: int) -> None:
        """Look at a network that was trained on images, where that took a minute or more."""
        from houndsight.data.loader import ImageBatches
        from houndsight.watch import study

        if isinstance(batches, ImageBatches) and time.time() - self._began >= _LOOK_AFTER:
            self._looked = study.look_at_images(network, batch, network.preprocess.image_size, self._cache)

    def conclude(self, job: JobFolder) -> None:
        """Write the facts, and what follows from all that was recorded."""
        facts = {**_facts(job), **self._looked}
        if self._window is not None:
            self._window.close()
            window = self._window
            facts |= {"operators": window.operators(), "window_steps": window.steps, "window_stall": window.stall}
        self._records.flush()
        write_json(job.records / runs.FACTS, runs.Facts(began=self._began, ended=time.time(), **facts))
        spec = json.loads(job.spec.read_bytes())
        asked = named(spec.get("rules", ())) if spec.get("kind") == "script" else Named()
        conclude(job.records, job.profile, job.rule_output, asked)


@contextmanager
def profiled(job: JobFolder, records: RecordWriter, *, interval: float = 0.5) -> Iterator[JobProfiler]:
    """Sample the machine while a job runs, and write `profile.json` and SageMaker's rule reports when it ends.

    A job that fails has its profile, too, and its own error is the one that is raised.
    """
    profiler = JobProfiler(job, records)
    sampler = Sampler(job.records, interval)
    try:
        with pauses(records):
            yield profiler
    except BaseException:
        sampler.stop()
        with suppress(HoundsightError):
            profiler.conclude(job)
        raise
    sampler.stop()
    profiler.conclude(job)


def conclude(records: Path, profile: Path, rule_output: Path | None, asked: Named | None = None) -> None:
    """Write what the records in that folder say about speed; rules are `asked` as somebody said, else as ever."""
    run, asked = runs.read(records), asked or Named()
    reports = rules.evaluate(run, asked.profiler, asked.off)
    with friendly_disk_errors(profile.parent):
        write_json(profile, document(run, reports))
        if rule_output is not None:
            write_sagemaker(rule_output, reports)


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
