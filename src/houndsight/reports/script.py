"""The page of a script job: how it ran, from the job's folder, and the answers of its first screen."""

from collections.abc import Sequence

from houndsight.folders import JobFolder
from houndsight.reports import commands, words
from houndsight.reports.numbers import count, duration, number, plural
from houndsight.reports.page import Curve, Failure, Overview, Verdict
from houndsight.reports.ran import Archive, MetricSummary, ScriptMetric, ScriptOutcome, ScriptRun
from houndsight.results import Verdict as Limit
from houndsight.spec import FINAL_STATES, Finding, ScriptSpec, Status

MODE = "script"
"""Mode of the scalars that were found in a script's output."""


def gather(
    job: JobFolder, spec: ScriptSpec, status: Status | None, outcome: ScriptOutcome | None, curves: Sequence[Curve]
) -> ScriptRun:
    """The run as it is known so far: from what was asked, from the records, and from `script.json` at its end."""
    found = {each.name: each for each in curves if each.mode == MODE}
    ran = outcome.metrics if outcome else {}
    took = outcome.seconds if outcome else None
    return ScriptRun(
        entry_point=spec.entry_point,
        source=spec.source_dir,
        alone=spec.alone,
        command=outcome.command if outcome else (),
        channels=spec.channels,
        hyperparameters=spec.hyperparameters,
        environment=tuple(spec.environment),
        limit=spec.max_seconds,
        exit_code=outcome.exit_code if outcome else None,
        seconds=took,
        reason=(outcome.stopped if outcome else "") or (status.reason if status and status.state == "STOPPED" else ""),
        killed=outcome.killed if outcome else 0,
        not_installed=outcome.not_installed if outcome else (),
        metrics=tuple(_metric(name, text, ran.get(name), found.get(name)) for name, text in spec.metrics.items()),
        machine=outcome.machine if outcome else None,
        archives=_archives(job, outcome),
    )


def in_order(curves: Sequence[Curve], spec: ScriptSpec) -> tuple[Curve, ...]:
    """The curves with the metrics in the order in which they were given: the first is the one that matters."""
    order = {name: place for place, name in enumerate(spec.metrics)}
    return tuple(sorted(curves, key=lambda each: order.get(each.name, len(order)) if each.mode == MODE else -1))


def _metric(name: str, expression: str, ran: MetricSummary | None, curve: Curve | None) -> ScriptMetric:
    points = curve.points if curve else ()
    return ScriptMetric(
        name=name,
        expression=expression,
        count=curve.count if curve else 0,
        last=curve.last if curve else None,
        best=curve.best if curve else None,
        best_step=curve.best_step if curve else None,
        lowest=min((each.low for each in points if each.low is not None), default=None),
        highest=max((each.high for each in points if each.high is not None), default=None),
        skipped=ran.skipped if ran else 0,
        gave_up=ran.gave_up if ran else False,
    )


def _archives(job: JobFolder, outcome: ScriptOutcome | None) -> tuple[Archive, ...]:
    held = outcome.packed if outcome else {}
    there = [path for path in (job.model_archive, job.output_archive) if path.is_file()]
    return tuple(Archive(name=path.name, bytes=path.stat().st_size, holds=held.get(path.name)) for path in there)


Watched = tuple[Sequence[Finding] | None, Sequence[Curve], Limit | None]
"""What was found in a script, its curves, and what limited its speed."""


def overview(
    name: str,
    spec: ScriptSpec,
    status: Status | None,
    run: ScriptRun,
    failure: Failure | None,
    *,
    watched: Watched = (None, (), None),
) -> Overview:
    """The first screen."""
    findings, curves, limit = watched
    good, healthy, speed = _good(status, run), _healthy(status, run, failure), _took(run)
    if not run.metrics and (heard := _heard(curves)) is not None:
        good = heard
    if healthy.tone == "good" and findings:
        healthy = words.healthy(status, findings, failure, [each for each in curves if each.mode != MODE])
    if limit is not None and run.seconds is not None:
        speed = speed.model_copy(update={"detail": f"{limit.message} {limit.change}".strip()})
    return Overview(
        trained=_ran(status, run),
        good=good,
        healthy=healthy,
        speed=speed,
        next=commands.after(name, status, spec, None),
    )


def _ran(status: Status | None, run: ScriptRun) -> str:
    """What ran and how it ended, in one sentence."""
    state = status.state if status else None
    after = f" after {duration(run.seconds)}" if run.seconds is not None else ""
    if state == "COMPLETED":
        return f"{run.entry_point} ran to its end in {duration(run.seconds)}."
    if state == "FAILED":
        if run.exit_code is None:
            return f"{run.entry_point} failed."
        how = f"with exit code {run.exit_code}" if run.exit_code >= 0 else f"killed by signal {-run.exit_code}"
        return f"{run.entry_point} failed{after}, {how}."
    if state == "STOPPED":
        return f"{run.entry_point} was {run.reason or 'stopped'}{after and ','}{after}."
    return (
        f"{run.entry_point} is {'stopping' if state == 'STOPPING' else 'running' if state == 'RUNNING' else 'to run'}."
    )


def _good(status: Status | None, run: ScriptRun) -> Verdict:
    """The last number of the first metric that found any, and the best where the name says which that is."""
    said = next((each for each in run.metrics if each.last is not None), None)
    if said is not None:
        detail = f"{said.name}, the last of {plural(said.count, 'number')} in its output"
        if said.best is not None and said.best_step is not None and said.best != said.last:
            detail += f"; the best was {number(said.best)}, number {count(said.best_step + 1)}"
        return Verdict(tone="quiet", headline=number(said.last), detail=detail + ".")
    over = status is not None and status.state in FINAL_STATES
    if run.metrics:
        names = ", ".join(each.name for each in run.metrics[:3])
        return Verdict(
            tone="fair" if over else "quiet",
            headline="No number found" if over else "Not yet known",
            detail=f"No line of the output holds {names}{' …' if len(run.metrics) > 3 else ''}.",
        )
    detail = "No metric was looked for: --metric 'NAME=REGEX' names one."
    return Verdict(tone="quiet", headline="Not measured", detail=detail)


def _heard(curves: Sequence[Curve]) -> Verdict | None:
    """The last number that was heard of the training itself, where the script's output was not searched for any."""
    for name, mode, of in (("accuracy", "valid", "evaluation"), ("loss", "valid", "evaluation"), ("loss", "train", "")):
        found = next((each for each in curves if (each.name, each.mode) == (name, mode)), None)
        if found is not None and found.last is not None:
            detail = f"{name.capitalize()} of the last {of or 'step'}, heard in the script."
            return Verdict(tone="quiet", headline=number(found.last), detail=detail)
    return None


def _healthy(status: Status | None, run: ScriptRun, failure: Failure | None) -> Verdict:
    state = status.state if status else None
    remarks = _remarks(run) if state in FINAL_STATES else []
    if failure is not None:
        where = f"In {failure.place.file}, line {failure.place.line}." if failure.place else ""
        code = "It left no exit code." if run.exit_code is None else f"Exit code {run.exit_code}."
        return Verdict(tone="bad", headline="Failed", detail=" ".join(filter(None, (where, code, *remarks))))
    if state == "STOPPED":
        detail = " ".join((f"{run.reason[:1].upper()}{run.reason[1:]}." if run.reason else "", *remarks)).strip()
        return Verdict(tone="fair", headline="Stopped", detail=detail or "It was stopped.")
    if remarks:
        return Verdict(tone="fair", headline=plural(len(remarks), "remark"), detail=" ".join(remarks))
    if state == "COMPLETED":
        return Verdict(tone="good", headline="Ended well", detail="Exit code 0, and no process was left behind.")
    return Verdict(tone="quiet", headline="Not yet known", detail="It has not ended.")


def _remarks(run: ScriptRun) -> list[str]:
    """What went wrong beside the script's own way, a sentence each."""
    remarks = []
    for each in run.metrics:
        if each.gave_up:
            remarks.append(f"The expression of “{each.name}” took too long and was given up.")
        elif each.skipped:
            remarks.append(f"{plural(each.skipped, 'match', 'matches')} of “{each.name}” were no number.")
    silent = [each.name for each in run.metrics if not each.count and not each.skipped and not each.gave_up]
    if silent and len(silent) < len(run.metrics):
        remarks.append(f"Nothing was found of {', '.join(silent)}.")
    if run.not_installed:
        remarks.append(f"Not installed: {', '.join(run.not_installed)}.")
    if run.killed:
        remarks.append(f"It left {plural(run.killed, 'process', 'processes')} behind, which had to be killed.")
    return remarks


def _took(run: ScriptRun) -> Verdict:
    if run.seconds is None:
        detail = f"It is stopped after {duration(run.limit)}." if run.limit else "It has no time limit."
        return Verdict(tone="quiet", headline="Not yet known", detail=detail)
    machine, detail = run.machine, ""
    if machine is not None and machine.cpu_seconds is not None and run.seconds > 0:
        busy = machine.cpu_seconds / run.seconds
        detail = f"On average {busy:.1f} of {plural(machine.cpus, 'processor')} at work."
        if busy < 0.05:
            detail = f"It mostly waited: {duration(machine.cpu_seconds)} of processor time."
        if machine.gpus:
            detail += f" {plural(machine.gpus, 'GPU')} to be had."
    return Verdict(
        tone="quiet", headline=duration(run.seconds), detail=detail or "Its time on the processors is unknown."
    )
