"""Replay: do one step of a job's training again and say what went wrong in it."""

from pathlib import Path

from houndsight.errors import SpecError
from houndsight.results import Replayed
from houndsight.spec import FINAL_STATES
from houndsight.verbs.job import Job, open_job


def replay(job: str, step: int | None = None, *, workspace: str | Path | None = None) -> Replayed:
    """Do that step (from 0) of a training again, from the checkpoint before it, with every operation looked at.

    Without a step it is the one that the flight recorder wrote down last. The job's own files stay as they are. Raises
    `WorkspaceError` for a job that is not there, `SpecError` for one that runs, or a step that it does not have.
    """
    found = open_job(job, workspace=workspace)
    if found.state not in FINAL_STATES:
        raise SpecError(f"The job '{job}' is {found.state}.", f"Type `houndsight stop {job}` first.")
    if step is None:
        step = _suspect(found)
    if step < 0:
        raise SpecError(f"There is no step {step}: they are counted from 0.", "Give another --step.")
    from houndsight.training.replay import replay as run  # torch is loaded where something is run

    return run(found.files, step)


def _suspect(job: Job) -> int:
    dumps = sorted((job.files.records / "flight").glob("[0-9]*"), key=lambda each: each.stat().st_mtime)
    if not dumps:
        raise SpecError(
            f"The flight recorder of '{job.name}' wrote nothing down.", "Say which step to replay: --step 123."
        )
    return int(dumps[-1].name)
