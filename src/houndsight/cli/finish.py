"""The end of every command that starts a job: follow it, say what came of it, and leave with the right code."""

from collections.abc import Callable
from typing import Any

from houndsight.cli.follow import follow
from houndsight.cli.output import document, duration, failed, note, say
from houndsight.errors import RequestError
from houndsight.verbs.job import Job
from houndsight.verbs.train import raise_failure


def finish(
    job: Job,
    *,
    detach: bool,
    json: bool,
    summary: Callable[[Job], None],
    fresh: bool = True,
    documented: Callable[[Job], dict[str, Any]] = Job.document,
    where: Callable[[Job], None] = lambda _job: None,
) -> int:
    """Follow the job unless it is to run alone, then print what came of it; returns the exit code.

    `summary` writes a result for people, `documented` makes the one for programs, `where` shows the place of a
    failure. A fresh job that was refused is removed and its `RequestError` raised.
    """
    note(f"{'Job' if fresh else 'Going on with job'} {job.name} in {job.folder}")
    if detach:
        if json:
            document(documented(job))
        else:
            say(f"{job.name} runs on its own. Follow it with: houndsight logs {job.name} -f")
        return 0
    interrupted = follow(job)
    error = job.error
    if fresh and isinstance(error, RequestError):
        raise_failure(job, fresh=True)
    if json:
        document(documented(job))
    elif error is not None:
        where(job)
        failed(error, as_json=False)
    elif not interrupted:
        summary(job)
    if error is not None:
        return error.exit_code
    return 0 if job.state == "COMPLETED" else 1


def heading(job: Job) -> None:
    """Write how the job ended and after how long."""
    status = job.status
    took = duration(status.ended - status.started if status.ended and status.started else None)
    say(f"{job.name}: {status.state} after {took}")


def results(job: Job) -> None:
    """Write where the results lie."""
    for label, path in (("model ", job.model), ("report", job.report)):
        if path is not None:
            say(f"  {label} {path}")
