"""Trials that went wrong: whose fault it was, whether one is too sick to go on, whether all of them fail alike."""

import json

from houndsight.backends.base import WITHOUT_A_WORD
from houndsight.folders import JobFolder
from houndsight.spec import Status
from houndsight.tuning.events import State

ALIKE = 5
"""Failures in a row, with nothing that succeeded, after which a search gives up."""


def of_the_machine(job: JobFolder, status: Status) -> bool:
    """Whether a failure may not happen again: a process that was killed, or no memory beside the other trials."""
    if status.error is not None:
        return "ran out of memory" in status.error.get("message", "") or _script_was_killed(job)
    return (status.exit_code or 0) < 0 or WITHOUT_A_WORD in status.reason or "killed by signal" in status.reason


def _script_was_killed(job: JobFolder) -> bool:
    try:
        return int(json.loads(job.script.read_bytes())["exit_code"]) in (-9, 137, -7, -15)
    except (OSError, ValueError, KeyError):
        return False


def why_failed(job: JobFolder, status: Status) -> str:
    """Why a job failed; of a script the last exception and its place, not the whole of its FailureReason."""
    try:
        outcome = json.loads(job.script.read_bytes())
    except (OSError, ValueError):
        return status.reason
    place = outcome.get("failed_at") or {}
    where = f" ({place['file']}, line {place['line']})" if place else ""
    return f"{outcome['error']}{where}" if outcome.get("error") else status.reason


def sick(job: JobFolder, script: bool) -> str:
    """The first error among the findings of the rules that watch the job; empty where there is none.

    A script is stopped only where its loss is no number any more: what else is wrong with it is so in every trial, and
    is no reason to have none.
    """
    try:
        found = json.loads(job.findings.read_bytes())["findings"]
    except (OSError, ValueError, KeyError):
        return ""
    for each in found:
        lost = each.get("rule") == "nonfinite_origin" or each.get("evidence", {}).get("finite") is False
        if each.get("status") == "IssuesFound" and each.get("severity") == "error" and (lost or not script):
            return f"{each.get('rule')}: {each.get('message')}"
    return ""


def hopeless(state: State) -> bool:
    """Whether the first trials all failed and none came to anything."""
    ended = [each for each in state.searched if each.state not in ("DECIDED", "RUNNING")]
    return len(ended) >= ALIKE and all(each.state == "FAILED" for each in ended)


def nothing_came(state: State) -> tuple[str, str]:
    """Message and repair for a search in which no trial was completed."""
    failed = [each for each in state.searched if each.state == "FAILED"]
    if not failed:
        return "No trial was completed before the search ended.", "Give it more --minutes or more --budget."
    reasons = [each.reason for each in failed]
    most = max(set(reasons), key=reasons.count)
    share = f"all {len(failed)}" if reasons.count(most) == len(failed) else f"{reasons.count(most)} of {len(failed)}"
    return (
        f"No trial was completed; {share} failed with: {most.rstrip('.')}.",
        f"`houndsight logs {failed[0].job}` shows what the first one said.",
    )
