"""`houndsight train`: from flags to a job, followed until it ends."""

from typing import Annotated

from cyclopts import Parameter

from houndsight.cli.finish import finish, heading, results
from houndsight.cli.flags import Cold, Json, Place
from houndsight.cli.output import percent, say
from houndsight.cli.settings import Settings, as_settings
from houndsight.errors import SpecError
from houndsight.verbs import train as verbs
from houndsight.verbs.job import Job


def train(
    data: Annotated[
        str | None,
        Parameter(help="Folder of images, one sub-folder a class, with or without train/valid/test; or a CSV list."),
    ] = None,
    /,
    *,
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
    name: Annotated[
        str | None, Parameter(help="Name of the job; a speakable one is made up where none is given.")
    ] = None,
    resume: Annotated[str | None, Parameter(metavar="JOB", help="Go on with a job that was stopped or died.")] = None,
    detach: Annotated[bool, Parameter(help="Return at once; the job goes on alone.")] = False,
    cold: Cold = False,
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Train a classifier on a folder of images.

    The job runs in a process of its own: closing the terminal does not end it, Ctrl-C stops it cleanly.
    """
    if resume is not None:
        if data is not None or settings or name is not None:
            raise SpecError(
                "A resumed job keeps its data, name and settings.", f"Type `houndsight train --resume {resume}` alone."
            )
        job = verbs.resume(resume, workspace=workspace, wait=False, cold=cold)
    elif data is None:
        raise SpecError("No data was given.", "Type `houndsight train FOLDER`, or `houndsight train --resume JOB`.")
    else:
        job = verbs.train(data, name=name, workspace=workspace, wait=False, cold=cold, **as_settings(settings))
    return finish(job, fresh=resume is None, detach=detach, json=json, summary=_summary)


def _summary(job: Job) -> None:
    """Write how good the model is, where it lies, and what to type next."""
    heading(job)
    for split, measures in job.metrics.items():
        top1 = measures["top1"]
        say(
            f"  {split} accuracy {percent(top1.value)} (95 % interval {percent(top1.low)} to {percent(top1.high)}, "
            f"{top1.n} images)"
        )
    results(job)
    if job.state == "COMPLETED":
        say(f"Next: houndsight predict {job.name} IMAGE...   or   houndsight report {job.name}")
    else:
        say(f"Go on with: houndsight train --resume {job.name}")
