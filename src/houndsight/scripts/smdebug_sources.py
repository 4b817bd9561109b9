"""Finds what a path names that `smdebug`'s readers are given: a folder, a job of the workspace, or an s3 address."""

import hashlib
import time
from pathlib import Path, PurePosixPath
from typing import Any

from houndsight import s3
from houndsight.backends import base
from houndsight.folders import JobFolder
from houndsight.scripts.smdebug_errors import MissingCollectionFiles, SMDebugNotImplementedError
from houndsight.scripts.smdebug_records import RecordReader
from houndsight.scripts.smdebug_store import FOLDER, Reader
from houndsight.scripts.smdebug_trial import POLL_SECONDS, Trial
from houndsight.spec import FINAL_STATES
from houndsight.workspace import Workspace


def create_trial(
    path: str,
    name: str | None = None,
    profiler: bool = False,
    output_dir: str | None = None,
    range_steps: tuple[int | None, int | None] | None = None,
    **_named: Any,
) -> Trial:
    """What a training saved, at its `debug-output/`: a folder, a job by name or folder, or an s3 address.

    An address in which the name of one of the workspace's jobs stands is that job's. Of a training that runs and has
    not saved anything yet the first step is waited for. Raises `MissingCollectionFiles` where there is nothing.
    """
    del output_dir
    if profiler:
        raise SMDebugNotImplementedError(
            "A trial of a profile is not there: use TrainingJob, LocalSystemMetricsReader or `houndsight report JOB`."
        )
    path = str(path).strip()
    job = None if _holds_tensors(path) else job_at(path)
    if job is not None:
        return Trial(_of_job(job), name or job.name, range_steps)
    folder = _fetched(path) if path.startswith("s3://") else Path(path).expanduser()
    folder = folder if any(folder.glob("worker_*.jsonl")) else folder / FOLDER
    if not any(folder.glob("worker_*.jsonl")):
        raise MissingCollectionFiles(path)
    return Trial(Reader(folder), name or PurePosixPath(path).name, range_steps)


def _holds_tensors(path: str) -> bool:
    """Whether a hook that was made with a folder of its own saved there, which may lie in a job."""
    return "://" not in path and any(Path(path).expanduser().glob("worker_*.jsonl"))


def job_at(path: str) -> JobFolder | None:
    """The job that a name, a folder, anything inside of it, or an s3 address means; None where it means none."""
    if "://" not in path:
        place = Path(path).expanduser().absolute()
        found = next((each for each in (place, *place.parents) if (each / "spec.json").is_file()), None)
        if found is not None or place.exists():
            return None if found is None else JobFolder(found)
    workspace = Workspace.find()
    parts = PurePosixPath(path.partition("://")[2] or path).parts
    name = next((part for part in reversed(parts) if (workspace.jobs / part / "spec.json").is_file()), None)
    return None if name is None else JobFolder(workspace.jobs / name)


def _of_job(job: JobFolder) -> Reader:
    """What its hook saved; without one, what the debugger recorded."""
    folder = job.path / FOLDER
    while True:
        ended = base.status(job).state in FINAL_STATES
        if any(folder.glob("worker_*.jsonl")):
            reader = Reader(folder)
            reader.refresh()
            if reader.steps or ended:
                return reader
        records = RecordReader(job.records, folder, ended=lambda: base.status(job).state in FINAL_STATES)
        if not folder.exists() or ended:
            records.refresh()
            if records.steps:
                return records
        if ended:
            raise MissingCollectionFiles(f"the job {job.name}")
        time.sleep(POLL_SECONDS)


def _fetched(address: str) -> Path:
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    return s3.fetch(address, Workspace.find().cache / "trials" / key)
