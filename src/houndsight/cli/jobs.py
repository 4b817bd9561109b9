"""`houndsight jobs`, `logs`, `stop` and `report`: looking at jobs and ending them; none of these needs torch."""

import os
import sys
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from houndsight.cli.flags import Json, Place
from houndsight.cli.follow import show
from houndsight.cli.output import document, duration, note, percent, say, table
from houndsight.verbs import job as verbs
from houndsight.verbs import report as reporting
from houndsight.verbs import tune as tuning
from houndsight.verbs.job import Job
from houndsight.verbs.tuning_job import TuningJob
from houndsight.workspace import Workspace

Name = Annotated[str, Parameter(help="Name of the job or the tuning.")]


def jobs(*, workspace: Place = None, json: Json = False) -> None:
    """List the jobs and tunings of the workspace, oldest first."""
    found = verbs.jobs(workspace=workspace)
    searches = tuning.tunings(workspace=workspace) if Workspace.find(workspace).tuning_names() else []
    if json:
        document([*(_entry(job) for job in found), *(_search(each) for each in searches)])
        return
    if not found and not searches:
        say("No jobs yet. Start with: houndsight train FOLDER")
    if found:
        table((_row(job) for job in found), ("JOB", "STATE", "TEST", "TOOK", "MADE", "WHY"))
    if searches:
        table((_search_row(each) for each in searches), ("TUNING", "STATE", "BEST", "TRIALS", "TOOK", "MADE", "WHY"))


def _search(found: TuningJob) -> dict[str, Any]:
    whole = found.document()
    entry = {key: whole[key] for key in ("tuning", "state", "folder", "report", "seconds", "best")}
    return {**entry, "created": found.status.created, "reason": found.status.reason}


def _search_row(found: TuningJob) -> tuple[str, ...]:
    status, search = found.status, found.search
    best = found.document()["best"]
    ended = sum(each.state in ("COMPLETED", "PRUNED", "FAILED", "STOPPED") for each in search.searched)
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.created))
    took, shown = duration(search.seconds), f"{best['value']:.5g}" if best else "-"
    return found.name, status.state, shown, f"{ended} of {found.spec.jobs}", took, made, status.reason


def _entry(job: Job) -> dict[str, Any]:
    whole = job.document()
    entry = {key: whole[key] for key in ("job", "state", "folder", "model", "report", "seconds", "metrics")}
    return {**entry, "created": job.status.created, "reason": job.status.reason}


def _row(job: Job) -> tuple[str, ...]:
    status = job.status
    test = job.metrics.get("test")
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(status.created))
    ended = status.ended or (time.time() if status.state in ("RUNNING", "STOPPING") else None)
    took = duration(ended - status.started if ended and status.started else None)
    return job.name, status.state, percent(test["top1"].value) if test else "-", took, made, status.reason


def logs(
    job: Annotated[str, Parameter(help="Name of the job, the tuning or the endpoint.")],
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), help="Go on until it has ended.")] = False,
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Show what a job, a tuning or an endpoint printed."""
    if job in Workspace.find(workspace).tuning_names():
        text = tuning.open_tuning(job, workspace=workspace).logs()
        if json:
            document({"tuning": job, "lines": text.splitlines()})
        else:
            sys.stdout.write(text)
        return
    if job in Workspace.find(workspace).endpoint_names():
        _endpoint_logs(job, follow, workspace, json)
        return
    found = verbs.open_job(job, workspace=workspace)
    if json:
        if follow:
            show(found, sys.stderr)
        document({"job": found.name, "state": found.state, "lines": found.logs().splitlines()})
    elif follow:
        show(found, sys.stdout)
    else:
        sys.stdout.write(found.logs())


def _endpoint_logs(name: str, follow: bool, workspace: Place, json: bool) -> None:
    from houndsight.verbs import endpoints  # takes asyncio along, which no other of these commands needs

    found = endpoints.open_endpoint(name, workspace=workspace)
    stream = sys.stderr if json else sys.stdout
    lines = found.follow() if follow else iter(found.logs().splitlines())
    if json and not follow:
        document({"endpoint": name, "state": found.state, "lines": list(lines)})
        return
    kept = []
    for line in lines:
        kept.append(line)
        stream.write(line + "\n")
        stream.flush()
    if json:
        document({"endpoint": name, "lines": kept})


def stop(
    job: Name,
    /,
    *,
    grace: Annotated[float, Parameter(metavar="SECONDS", help="How long it may take before it is killed.")] = 120.0,
    workspace: Place = None,
    json: Json = False,
) -> None:
    """Stop a job or a tuning: it writes a checkpoint and ends, and can go on later with --resume."""
    if job in Workspace.find(workspace).tuning_names():
        search = tuning.open_tuning(job, workspace=workspace).stop(grace)
        if json:
            document(search.document())
        else:
            say(f"{job}: {search.state}")
            say(f"Go on with: houndsight tune --resume {job}")
        return
    found = verbs.stop(job, workspace=workspace, grace=grace)
    if json:
        document(found.document())
        return
    state = found.state
    say(f"{job}: {state}")
    if state in ("STOPPED", "FAILED"):
        say(f"Go on with: houndsight train --resume {job}")


def report(
    job: Name,
    other: Annotated[str | None, Parameter(help="A second job, to compare the first one with.")] = None,
    /,
    *,
    check: Annotated[
        reporting.Severity | None,
        Parameter(metavar="WORD", help="Exit 1 where a rule of at least this severity fired: info, warning or error."),
    ] = None,
    open: Annotated[bool, Parameter(negative="--no-open", help="Show the page in the browser.")] = True,  # noqa: A002
    tensor: Annotated[
        str | None,
        Parameter(metavar="REGEX", help="Draw the curves of these tensors instead, such as 'layer4.*grad'."),
    ] = None,
    statistic: Annotated[str, Parameter(metavar="WORD", help="With --tensor: what is drawn, such as mean.")] = "l2",
    workspace: Place = None,
    json: Json = False,
) -> int:
    """Build the page of a job or a tuning again, or compare two jobs, and open it where there is a screen."""
    if tensor is not None:
        page = Path(verbs.open_job(job, workspace=workspace).debug.plot(tensor, statistic))
        if json:
            document({"job": job, "picture": str(page)})
            return 0
    else:
        page = reporting.report(job, other, workspace=workspace)
    fired = (
        [] if check is None else [f for n in (job, other) if n for f in reporting.fired(n, check, workspace=workspace)]
    )
    if json:
        compared = {"other": other} if other else {}
        checked = {} if check is None else {"fired": [each.model_dump() for each in fired]}
        document({"job": job, **compared, "report": str(page), "data": str(page.with_suffix(".json")), **checked})
        return 1 if fired else 0
    say(str(page))
    for each in fired:
        note(f"{each.rule} ({each.severity if each.status == 'IssuesFound' else 'the rule broke'}): {each.message}")
    if open and sys.stdout.isatty() and _has_screen() and not webbrowser.open(page.as_uri()):
        note("No browser could be started; open the page yourself.")
    return 1 if fired else 0


def _has_screen() -> bool:
    # Without a screen Python would start a text browser inside the terminal.
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
