"""A finding of the look at a script: which line, what is wrong, what to type; and how it meets the rules' findings."""

import ast
from collections.abc import Sequence
from typing import Literal

from houndsight.contract.look_code import Program
from houndsight.contract.look_source import Place
from houndsight.spec import Finding

Severity = Literal["info", "warning", "error"]
MOST_PLACES = 5
"""Most lines that one finding names."""
_RANK = {"error": 0, "warning": 1, "info": 2}


def issue(
    program: Program, rule: str, severity: Severity, nodes: Sequence[ast.AST], message: str, repair: str
) -> Finding:
    """A finding about the lines of these nodes, the first of which stands in its message as `{at}`."""
    return at(rule, severity, [program.place(node) for node in nodes], message, repair)


def at(rule: str, severity: Severity, places: Sequence[Place], message: str, repair: str) -> Finding:
    """A finding about these lines; `{at}` in the message is the first one's file and line."""
    ordered = list(dict.fromkeys(places))
    first = ordered[0]
    return Finding(
        source="script",
        rule=rule,
        severity=severity,
        message=message.replace("{at}", f"{first.file}, line {first.line}"),
        repair=repair,
        evidence={
            "file": first.file,
            "line": first.line,
            "code": first.code,
            "places": [{"file": each.file, "line": each.line, "code": each.code} for each in ordered[:MOST_PLACES]],
        },
    )


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, then warnings; within them as they were found."""
    return sorted(findings, key=lambda each: _RANK[each.severity])


def merged(seen: Sequence[Finding], looked: Sequence[Finding]) -> list[Finding]:
    """What the rules saw while the script ran, with the lines that the look at its code found.

    Where a rule found what the look found too, its finding gets the line and the repair that belongs to it. Where the
    rule found nothing, or could not look, the look's finding stands beside how the rule stands.
    """
    lines: dict[str, Finding] = {}
    for each in looked:
        lines.setdefault(each.rule, each)
    joined: set[str] = set()
    result: list[Finding] = []
    for each in seen:
        found = lines.get(each.rule)
        if found is None or each.status == "Error":
            result.append(each)
        elif each.status == "IssuesFound":
            joined.add(each.rule)
            result.append(_with_line(each, found))
        elif each.status == "NoIssuesFound":
            result.append(each)
    return [*result, *(each for each in looked if each.rule not in joined)]


def _with_line(seen: Finding, found: Finding) -> Finding:
    where = f"{found.evidence['file']}, line {found.evidence['line']}"
    return seen.model_copy(
        update={
            "message": seen.message if where in seen.message else f"{seen.message} See {where}.",
            "repair": found.repair or seen.repair,
            "evidence": {**seen.evidence, **found.evidence},
        }
    )
