"""Report: rebuild a page from its folder alone, compare two jobs, say what fired; the last station, without torch."""

import json
from pathlib import Path
from typing import Literal

from houndsight.errors import RequestError, SpecError
from houndsight.folders import JobFolder
from houndsight.reports import comparison, summary, tuning
from houndsight.spec import Finding
from houndsight.verbs.job import open_job
from houndsight.workspace import Workspace

Severity = Literal["info", "warning", "error"]
RANK = {"info": 0, "warning": 1, "error": 2}
"""Severities in their order."""


def report(job: str, other: str | None = None, *, workspace: str | Path | None = None) -> Path:
    """Build `report.html` and `report.json` of a job or a tuning again and return the page.

    With `other` the two jobs are compared instead, on a page in the folder of the first. Raises `WorkspaceError` for a
    name that is not there, `SpecError` where one of two is a tuning.
    """
    place = Workspace.find(workspace)
    if other is not None:
        for name in (job, other):
            if name in place.tuning_names():
                raise SpecError(f"'{name}' is a tuning; jobs can be compared.", f"houndsight report {name}")
        first, second = (open_job(name, workspace=workspace).files for name in (job, other))
        comparison.build(first, second, place)
        return first.comparison(other)
    if job in place.tuning_names():
        folder = place.tuning(job)
        tuning.build(folder, place)
        return folder.report
    found = open_job(job, workspace=workspace)
    summary.build(found.files)
    return found.files.report


def fired(job: str, severity: Severity = "warning", *, workspace: str | Path | None = None) -> list[Finding]:
    """What rules of the job, or the tuning, found of at least that severity; a rule that broke counts as well.

    Raises `SpecError` for a severity that is none.
    """
    if severity not in RANK:
        raise SpecError(f"There is no severity '{severity}'.", f"Choose one of {', '.join(RANK)}.")
    place = Workspace.find(workspace)
    if job in place.tuning_names():
        paths = [place.tuning(job).findings]
    else:
        files: JobFolder = open_job(job, workspace=workspace).files
        paths = [files.check, files.findings, files.profile]
    found = [each for path in paths if path.is_file() for each in _findings(path)]
    least = RANK[severity]
    return [e for e in found if e.status == "Error" or (e.status == "IssuesFound" and RANK[e.severity] >= least)]


def _findings(path: Path) -> list[Finding]:
    try:
        held = json.loads(path.read_bytes())
    except ValueError as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
    return [Finding.create(**each) for each in held.get("findings", [])]
