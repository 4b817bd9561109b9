"""A job as Python sees it: a view of its folder that can wait and stop; every verb that trains returns one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from houndsight.backends import base
from houndsight.backends.base import Backend
from houndsight.backends.logs import LogLines
from houndsight.errors import HoundsightError, JobError, WorkspaceError, from_document
from houndsight.folders import JobFolder
from houndsight.records import progress
from houndsight.records.progress import Snapshot
from houndsight.records.reader import Records
from houndsight.reports.notebook import Findings, card
from houndsight.results import Evaluation, Measure, Verdict
from houndsight.spec import FINAL_STATES, Finding, State, Status
from houndsight.verbs.tensors import JobTensors
from houndsight.workspace import Workspace

LOOK = 0.25  # seconds between two looks at a running job's files: as often as its progress is written


@dataclass(frozen=True)
class Job:
    """One job; holds nothing but its folder, so every property is what the files say now."""

    files: JobFolder

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.files.name

    @property
    def folder(self) -> Path:
        """Folder of the job."""
        return self.files.path

    @property
    def status(self) -> Status:
        """Where it stands; a job whose process died is found and marked FAILED with the reason."""
        return base.status(self.files)

    @property
    def state(self) -> State:
        """QUEUED, RUNNING, STOPPING, COMPLETED, FAILED or STOPPED."""
        return self.status.state

    @property
    def metrics(self) -> dict[str, dict[str, Measure]]:
        """By split and metric, the value and its 95 % interval; empty until the job has evaluated."""
        found = {}
        for split in ("test", "valid"):
            path = self.files.evaluation / f"{split}.json"
            if path.is_file():
                found[split] = Evaluation.read(path).metrics
        return found

    @property
    def findings(self) -> Findings:
        """What was noticed about the data and the run."""
        found = Findings()
        for path in (self.files.check, self.files.findings):
            if path.is_file():
                found += [Finding.model_validate(each) for each in json.loads(path.read_bytes())["findings"]]
        return found

    @property
    def records(self) -> Records:
        """Scalars and spans, readable while the job runs."""
        return Records(self.files.records)

    @property
    def debug(self) -> JobTensors:
        """Statistics of weights, gradients, updates and activations, readable while the job runs."""
        return JobTensors(self.files)

    @property
    def report(self) -> Path | None:
        """The page, or None before there is one."""
        return self.files.report if self.files.report.is_file() else None

    @property
    def model(self) -> Path | None:
        """The packed artifact, or None before there is one."""
        return self.files.model_archive if self.files.model_archive.is_file() else None

    @property
    def error(self) -> HoundsightError | None:
        """Why the job failed, or None where it did not."""
        status = self.status
        if status.state != "FAILED":
            return None
        if status.error:
            return from_document(status.error)
        return JobError(status.reason or f"The job '{self.name}' failed.", f"See {self.files.log}.")

    @property
    def progress(self) -> Snapshot | None:
        """How far the present stage is, or None before the first."""
        return progress.read(self.files.progress)

    def wait(self, timeout: float | None = None) -> "Job":
        """Return when the job is COMPLETED, FAILED or STOPPED, or after `timeout` seconds."""
        backend_named(self.status.backend).wait(self.files, timeout)
        return self

    def stop(self, grace: float = 120.0) -> "Job":
        """Ask the job to write a checkpoint and end; after `grace` seconds it is killed."""
        status = self.status
        if status.state not in FINAL_STATES:
            backend_named(status.backend).stop(self.files, grace)
        return self

    def logs(self) -> str:
        """What it printed so far."""
        return self.files.log.read_text(encoding="utf-8", errors="replace") if self.files.log.is_file() else ""

    def follow(self) -> Iterator[str | Snapshot]:
        """Yield lines of the log and looks at the progress, from the log's first line until the job has ended."""
        backend = backend_named(self.status.backend)
        lines, last, ended = LogLines(self.files), None, False
        yield from lines.fresh()
        while not ended:
            now = self.progress
            if now is not None and now != last:
                yield now
            last = now
            ended = backend.wait(self.files, LOOK).state in FINAL_STATES
            if ended:
                backend.wait(self.files)  # its process still builds the page
            yield from lines.fresh()
        yield from lines.rest()

    @property
    def verdict(self) -> Verdict | None:
        """What limited its speed; None before that is known."""
        if not self.files.profile.is_file():
            return None
        held = json.loads(self.files.profile.read_bytes()).get("verdict")
        return Verdict.model_validate(held) if held else None

    def _repr_html_(self) -> str:
        report = str(self.report) if self.report else None
        return card(self.name, self.status, self.metrics, self.findings, self.verdict, report)

    def document(self) -> dict[str, Any]:
        """What `houndsight train --json` prints: other programs may rely on its keys."""
        status = self.status
        document = {
            "job": self.name,
            "state": status.state,
            "folder": str(self.folder),
            "model": str(self.model) if self.model else None,
            "report": str(self.report) if self.report else None,
            "seconds": round(status.ended - status.started, 3) if status.ended and status.started else None,
            "metrics": {
                split: {name: each.model_dump() for name, each in measures.items()}
                for split, measures in self.metrics.items()
            },
            "findings": [each.model_dump() for each in self.findings],
        }
        error = self.error
        return document if error is None else {**document, "error": error.document()}


def backend_named(name: str, *, cold: bool = False) -> Backend:
    """The back end of that name, `cold` where no warm process is to be used; raises `WorkspaceError` for no name."""
    if name == "local":
        from houndsight.backends.local import LocalBackend
        from houndsight.contract.environment import at_start

        return LocalBackend(cold=cold, of_script=at_start)
    if name == "inline":
        from houndsight.backends.inline import InlineBackend
        from houndsight.worker import run_job

        return InlineBackend(run_job)
    raise WorkspaceError(f"There is no back end '{name}'.", "Choose 'local' or 'inline'.")


def submit(files: JobFolder, runner: Backend) -> Job:
    """Start a job; one that ran in this process has its page as well when this returns."""
    runner.submit(files)
    if runner.name == "inline":  # a process of its own builds its page itself
        from houndsight.reports import summary

        summary.build(files)
    return Job(files)


def open_job(name: str, *, workspace: str | Path | None = None) -> Job:
    """The job of that name; raises `WorkspaceError` with the nearest names where there is none."""
    return Job(Workspace.find(workspace).job(name))


def jobs(*, workspace: str | Path | None = None) -> list[Job]:
    """All jobs of the workspace, oldest first."""
    place = Workspace.find(workspace)
    return [Job(place.job(name)) for name in place.names()]


def stop(job: str, *, workspace: str | Path | None = None, grace: float = 120.0) -> Job:
    """Stop the job of that name cleanly; it can go on later. A job that has ended is left as it is."""
    return open_job(job, workspace=workspace).stop(grace)
