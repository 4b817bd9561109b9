"""Numbers into sentences: the verdicts of the first screen and the plain text of everything else."""

import math
from collections.abc import Mapping, Sequence

from houndsight.reports import commands
from houndsight.reports.page import Curve, DataTable, Failure, Overview, Result, TimeUse, Verdict
from houndsight.spec import FINAL_STATES, ClassifierSpec, Finding, JobSpec, Status

THIN = "\u202f"
"""Narrow no-break space: between a number and its unit, and between thousands."""

SPLITS = {"train": "training", "valid": "validation", "test": "test"}
"""The splits, and modes of scalars, in words."""

NETWORK = frozenset({"forward", "backward", "optimizer"})
"""The kinds of time that only another network or machine would change."""


def percent(value: float | None, digits: int = 1) -> str:
    """0.944 as `94.4 %`; a dash where there is no number."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}{THIN}%"


def count(value: float) -> str:
    """12345 as `12 345`."""
    return f"{value:,.0f}".replace(",", THIN)


def plural(number: int, one: str, many: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def number(value: float | None) -> str:
    """A number of any size to four significant digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}" if abs(value) < 1e4 else count(value)


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `8.4 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.3g}{THIN}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest:02d}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60:02d}{THIN}min"


def size(count_of_bytes: float) -> str:
    """Bytes in decimal units: `1.3 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count_of_bytes < 999.5:
            return f"{count_of_bytes:.3g}{THIN}{unit}"
        count_of_bytes /= 1000
    return f"{count_of_bytes:.3g}{THIN}TB"


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
) -> Overview:
    """The first screen from everything else.

    `used` are the settings that a classifier came to use; `findings` is None where nobody looked.
    """
    return Overview(
        trained=_trained(status, used or spec, data, curves, time),
        good=_good(status, results, curves),
        healthy=_healthy(status, findings, failure, curves),
        speed=_speed(time),
        next=commands.after(name, status, spec, used),
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


def _healthy(
    status: Status | None, findings: Sequence[Finding] | None, failure: Failure | None, curves: Sequence[Curve]
) -> Verdict:
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


def _speed(time: TimeUse | None) -> Verdict:
    """The largest part of the time, the network's own arithmetic taken together, and what could be won at most."""
    if time is None:
        return Verdict(tone="quiet", headline="Not measured", detail="No time spans were recorded.")
    network = sum(each.share for each in time.shares if each.kind in NETWORK)
    avoidable = [each for each in time.shares if each.kind not in NETWORK]
    if not avoidable or network >= avoidable[0].share:
        headline, share = "The network itself", network
    else:
        headline, share = avoidable[0].label, avoidable[0].share
    detail = f"{percent(share, 0)} of {duration(time.wall)}."
    if avoidable and avoidable[0].share >= 0.05:
        most = avoidable[0]
        what = "Without it" if most.label == headline else f"Without “{most.label.lower()}” ({percent(most.share, 0)})"
        detail += f" {what} the run would be {1 / (1 - min(most.share, 0.99)):.1f} times as fast."
    return Verdict(tone="quiet", headline=headline, detail=detail)


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
