"""Report: rebuild a job's page from its folder alone; the last station that needs no torch."""

from pathlib import Path

from houndsight.reports import summary
from houndsight.verbs.job import open_job


def report(job: str, *, workspace: str | Path | None = None) -> Path:
    """Build `report.html` and `report.json` of a job again and return the page."""
    found = open_job(job, workspace=workspace)
    summary.build(found.files)
    return found.files.report
