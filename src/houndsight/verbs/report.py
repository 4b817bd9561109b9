"""Report: rebuild a job's page from its folder alone; the last station that needs no torch."""

from pathlib import Path

from houndsight.reports import summary, tuning
from houndsight.verbs.job import open_job
from houndsight.workspace import Workspace


def report(job: str, *, workspace: str | Path | None = None) -> Path:
    """Build `report.html` and `report.json` of a job or a tuning again and return the page."""
    place = Workspace.find(workspace)
    if job in place.tuning_names():
        folder = place.tuning(job)
        tuning.build(folder, place)
        return folder.report
    found = open_job(job, workspace=workspace)
    summary.build(found.files)
    return found.files.report
