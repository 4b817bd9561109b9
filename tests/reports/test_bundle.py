"""The chart library is made beside a job, once for all jobs of a workspace, whoever asks first."""

import threading

from houndsight.reports import bundle
from houndsight.workspace import Workspace
from tests.reports.factory import make_job


def test_made_beside_the_job_and_waited_for(workspace: Workspace) -> None:
    job = make_job(workspace.path)
    folder = bundle.cache_of(job)
    assert folder is not None
    bundle.make_ahead(job)
    text = bundle.bundle(folder)  # waits for the other thread, or is first
    for thread in threading.enumerate():
        if thread.name == "houndsight-charts":
            thread.join()
    (kept,) = folder.iterdir()
    assert kept.read_text(encoding="utf-8") == text
    assert "vegaEmbed" in text
    before = threading.active_count()
    bundle.make_ahead(job)
    assert threading.active_count() == before
