"""What limited the speed and what to change next, in words: from the profiler's verdict to the first screen."""

from collections.abc import Sequence

from houndsight.reports.numbers import duration, percent
from houndsight.reports.page import Repair, TimeUse, Verdict
from houndsight.results import Verdict as Limit
from houndsight.spec import Finding

REPAIRS = 3
"""Most changes named on the first screen."""
WORTH = 1.1
"""A gain below this is not worth a change."""

CAUSES = {
    "checkpoint": "Writing checkpoints",
    "compute": "The network itself",
    "copy": "Copying to the device",
    "data_wait": "Waiting for images",
    "debugger": "The debugger",
    "evaluate": "Validation",
    "gpu_unused": "An idle GPU",
    "idle_cores": "Idle cores",
    "memory_growth": "Growing memory",
    "neighbour": "Other programs",
    "paging": "Too little memory",
    "quota": "The container's quota",
    "slow_worker": "One slow data worker",
    "sync": "Waiting for the device",
    "tiny_batch": "Tiny batches",
}
"""What the profiler's verdict names, in a few words; others appear under their own name."""

NETWORK = frozenset({"forward", "backward", "optimizer"})
"""The kinds of time that only another network or machine would change."""


def limited(limit: Limit, time: TimeUse | None) -> Verdict:
    """The profiler's verdict as the answer of the first screen."""
    headline = CAUSES.get(limit.cause, limit.cause.replace("_", " ").capitalize())
    detail = limit.message
    if limit.gain >= WORTH:
        detail += f" Without it: {limit.gain:.1f} times as fast."
    elif time is not None and limit.cause != "compute":
        detail += f" {percent(limit.share, 0)} of {duration(time.wall)}."
    return Verdict(tone="quiet" if limit.gain < WORTH else "fair", headline=headline, detail=detail)


def spent(time: TimeUse | None) -> Verdict:
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


def repairs(findings: Sequence[Finding]) -> tuple[Repair, ...]:
    """What to change next: the repairs of what was found, errors first, then the larger gain; each said once."""
    rank = {"error": 0, "warning": 1, "info": 2}
    issues = [each for each in findings if each.status == "IssuesFound" and each.severity != "info" and each.repair]
    issues.sort(key=lambda each: (rank[each.severity], each.source == "check", -_gain(each)))
    said: dict[str, Repair] = {}
    for each in issues:
        gain = _gain(each)
        found = Repair(text=each.repair, rule=each.rule, severity=each.severity, gain=gain if gain > 1 else None)
        said.setdefault(each.repair, found)
    return tuple(said.values())[:REPAIRS]


def _gain(finding: Finding) -> float:
    """What the change is expected to win, else what could be won at most; 1 where nothing is said."""
    for key in ("expected", "gain"):
        value = finding.evidence.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return round(float(value), 2)
    return 1.0
