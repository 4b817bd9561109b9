"""Numbers into sentences: the verdicts of the first screen and the plain text of everything else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from houndsight.reports import commands, limits
from houndsight.reports.numbers import THIN, count, duration, percent, plural
from houndsight.reports.page import Curve, DataTable, Failure, Overview, Result, TimeUse, Verdict
from houndsight.results import Verdict as Limit
from houndsight.spec import FINAL_STATES, ClassifierSpec, Finding, JobSpec, Status

SPLITS = {"train": "training", "valid": "validation", "test": "test"}
"""The splits, and modes of scalars, in words."""


def overview(
    name: str,
    status: Status | None,
    spec: JobSpec | None,
    used: ClassifierSpec | None,
    data: DataTable | None,
    curves: Sequence[Curve],
    time: TimeUse | None,
    results: Sequence[Result],
    findings: Sequence[Finding] | None,
    failure: Failure | None,
    limit: Limit | None = None,
    *,
    checked: bool = True,
) -> Overview:
    """The first screen from everything else.

    `used` are the settings that a classifier came to use; `findings` is None where nobody looked; `limit` is the
    profiler's verdict; `checked` says whether check or rules have looked.
    """
    # What costs time is the answer to another question.
    judged = [each for each in findings or () if each.source != "profiler"] if checked else None
    return Overview(
        trained=_trained(status, used or spec, data, curves, time),
        good=_good(status, results, curves),
        healthy=healthy(status, judged, failure, curves),
        speed=limits.limited(limit, time) if limit else limits.spent(time),
        next=commands.after(name, status, spec, used),
        repairs=limits.repairs(findings or ()),
    )


def _trained(
    status: Status | None,
    spec: JobSpec | None,
    data: DataTable | None,
    curves: Sequence[Curve],
    time: TimeUse | None,
) -> str:
    """Who learned what from how much, and how far it came, in one sentence."""
    state = status.state if status else None
    steps = max((each.points[-1].step + 1 for each in curves if each.points and each.mode == "train"), default=0)
    if not isinstance(spec, ClassifierSpec):
        verb = {"COMPLETED": "ran", "RUNNING": "is running", "STOPPING": "is stopping"}.get(state or "", "was run")
        sentence = f"Something {verb}"
    else:
        usual = "began to learn" if steps else "was to learn"
        verb = {"COMPLETED": "learned", "RUNNING": "is learning", "STOPPING": "is learning"}.get(state or "", usual)
        what = f"the classes of {spec.data}"
        if data is not None:
            images = plural(data.images.get("train", 0), "image")
            what = f"{plural(len(data.classes), 'class', 'classes')} from {images}"
        sentence = f"{network(spec)} {verb} {what}"
    seconds = status.ended - status.started if status and status.started and status.ended else time and time.wall
    extent = [plural(steps, "step")] * bool(steps)
    extent += [f"in {duration(seconds)}"] if seconds else []
    extent += ["so far"] if extent and state not in FINAL_STATES else []
    return f"{sentence}{':' if steps else ''} {' '.join(extent)}".strip() + "."


def watched_loop(raw: Mapping[str, Any], status: Status | None, curves: Sequence[Curve]) -> str:
    """What a loop of somebody's own did, from its `LoopSpec` as JSON, in one sentence."""
    steps = max((each.points[-1].step + 1 for each in curves if each.points and each.mode == "train"), default=0)
    models = ", ".join(map(str, raw.get("models", ()))) or "A model"
    means = ", ".join(map(str, raw.get("optimizers", ())))
    sentence = f"{models} in a loop of its own{f' with {means}' if means else ''}"
    extent = [plural(steps, "step")] * bool(steps)
    if status and status.started and status.ended:
        extent.append(f"in {duration(status.ended - status.started)}")
    return f"{sentence}: {' '.join(extent)}." if extent else f"{sentence}."


def network(spec: ClassifierSpec) -> str:
    """What was trained of which network, in words."""
    if spec.freeze == "none":
        how = "all layers"
    elif spec.freeze == "all":
        how = "frozen, linear head in closed form" if spec.optimizer == "lbfgs" else "frozen, new head"
    else:
        how = f"first {plural(spec.freeze, 'stage')} frozen"
    return f"{spec.backbone} ({how})"


def _good(status: Status | None, results: Sequence[Result], curves: Sequence[Curve]) -> Verdict:
    for result in results:
        top1 = result.metrics.get("top1")
        if top1 is None or not math.isfinite(top1.value):
            continue
        images = plural(top1.n, f"{SPLITS.get(result.split, result.split)} image")
        interval = f"95{THIN}% interval {percent(top1.low)} to {percent(top1.high)}"
        chance = f"; guessing would reach {percent(1 / len(result.classes))}" if result.classes else ""
        detail = f"of {images} recognised. {interval}{chance}."
        return Verdict(tone="good", headline=percent(top1.value), detail=detail)
    best = next((c for c in curves if c.name == "accuracy" and c.mode != "train" and c.best is not None), None)
    if best is not None:
        detail = f"best validation accuracy so far, at step {count(best.best_step or 0)}; no test result yet."
        return Verdict(tone="quiet", headline=percent(best.best), detail=detail)
    over = status is not None and status.state in FINAL_STATES
    return Verdict(
        tone="quiet",
        headline="Not measured" if over else "Not yet known",
        detail="The job ended before its evaluation." if over else "The evaluation comes at the end of the run.",
    )


def healthy(
    status: Status | None, findings: Sequence[Finding] | None, failure: Failure | None, curves: Sequence[Curve]
) -> Verdict:
    """Whether the rules found anything."""
    if failure is not None:
        return Verdict(tone="bad", headline="Failed", detail=failure.message)
    broken = next((each for each in curves if each.nonfinite), None)
    if broken is not None:
        detail = f"{broken.mode} {broken.name} was not finite, first at step {count(broken.nonfinite_step or 0)}."
        return Verdict(tone="bad", headline="Non-finite values", detail=detail)
    if findings is None:
        return Verdict(tone="quiet", headline="Not checked", detail="No rules watched this run.")
    issues = [each for each in findings if each.status == "IssuesFound" and each.severity != "info"]
    issues.sort(key=lambda each: each.severity != "error")
    errored = [each for each in findings if each.status == "Error"]
    if issues:
        errors = sum(each.severity == "error" for each in issues)
        parts = [plural(errors, "error")] * bool(errors)
        parts += [plural(len(issues) - errors, "warning")] * (len(issues) > errors)
        return Verdict(tone="bad" if errors else "fair", headline=", ".join(parts), detail=issues[0].message)
    if errored:
        return Verdict(tone="fair", headline=f"{plural(len(errored), 'rule')} broke", detail=errored[0].message)
    running = status is not None and status.state not in FINAL_STATES
    looked = len({each.rule for each in findings if each.status in {"NoIssuesFound", "InProgress"}})
    detail = f"{plural(looked, 'rule')} watched this run." if looked else "Nothing to report."
    return Verdict(tone="good", headline="No issues so far" if running else "No issues", detail=detail)


def flat(document: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """A nested document as `a.b: text` rows; lists of plain values in one row."""
    rows: dict[str, str] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            rows |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            rows[f"{prefix}{key}"] = ", ".join(map(str, value)) or "–"
        elif isinstance(value, float):
            rows[f"{prefix}{key}"] = f"{value:.6g}"
        else:
            rows[f"{prefix}{key}"] = "–" if value is None else str(value)
    return rows
