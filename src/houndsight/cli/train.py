"""`houndsight train`: from flags to a job, followed until it ends."""

from typing import Annotated

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place
from houndsight.cli.follow import follow_or_stop
from houndsight.cli.output import document, duration, failed, note, percent, say
from houndsight.cli.settings import Settings, as_settings
from houndsight.errors import RequestError, SpecError
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
        job = verbs.resume(resume, workspace=workspace, wait=False)
    elif data is None:
        raise SpecError("No data was given.", "Type `houndsight train FOLDER`, or `houndsight train --resume JOB`.")
    else:
        job = verbs.train(data, name=name, workspace=workspace, wait=False, **as_settings(settings))
    return finish(job, fresh=resume is None, detach=detach, json=json)


def finish(job: Job, *, fresh: bool, detach: bool, json: bool) -> int:
    """Follow the job unless it is to run alone, then print what came of it; returns the exit code."""
    note(f"{'Job' if fresh else 'Going on with job'} {job.name} in {job.folder}")
    if detach:
        if json:
            document(job.document())
        else:
            say(f"{job.name} runs on its own. Follow it with: houndsight logs {job.name} -f")
        return 0
    interrupted = follow_or_stop(job)
    error = job.error
    if isinstance(error, RequestError) and fresh:
        verbs.raise_failure(job, fresh=True)
    if json:
        document(job.document())
    elif error is not None:
        failed(error, as_json=False)
    elif not interrupted:
        summary(job)
    if error is not None:
        return error.exit_code
    return 0 if job.state == "COMPLETED" else 1


def summary(job: Job) -> None:
    """Write how good the model is, where it lies, and what to type next."""
    status = job.status
    took = duration(status.ended - status.started if status.ended and status.started else None)
    say(f"{job.name}: {status.state} after {took}")
    for split, measures in job.metrics.items():
        top1 = measures["top1"]
        say(
            f"  {split} accuracy {percent(top1.value)} (95 % interval {percent(top1.low)} to {percent(top1.high)}, "
            f"{top1.n} images)"
        )
    for label, path in (("model ", job.model), ("report", job.report)):
        if path is not None:
            say(f"  {label} {path}")
    if status.state == "COMPLETED":
        say(f"Next: houndsight predict {job.name} IMAGE...   or   houndsight report {job.name}")
    else:
        say(f"Go on with: houndsight train --resume {job.name}")
