"""docs/rules.md from the rules themselves and the results of the zoo: what each rule is, and how often it is right."""

import inspect
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from houndsight.metrics import wilson
from houndsight.records.rules.rule import Rule
from houndsight.records.rules.table import OURS, SAGEMAKER

from .faults import FAULTS, Fault

RESULTS = Path(__file__).parent / "results.json"
TUNED = (0,)  # seeds on which thresholds were chosen; the others confirm them
LEARNT = 0.5

HEAD = """# Rules

Made by `make zoo`; a test compares it with the code.

Every training is watched by {count} rules, while it runs and afterwards from its records alone. A rule that was not
given what it needs says *not applicable*, never that all is well. What they find stands in `findings.json`, in the
report, in `houndsight.open_job(job).findings` and in the log. Severities: *info* is for people to look at, *warning*
costs accuracy or time, *error* means that the training cannot come out well.

    houndsight train photos --rule dead_relu:off --rule overfit:patience=3,ratio_threshold=0.2 --on-finding stop

`--rule name:parameter=value,...` sets parameters, `name:off` leaves a rule out, `--rule none` leaves out all. Under the
names of SageMaker Debugger's rules our statistics decide, unless one of SageMaker's own parameters is given: then the
rule decides as SageMaker documents it. `--on-finding stop` stops with a checkpoint at an error (`stop:warning` at a
warning too); any other text is a command, in which `{{rule}}`, `{{severity}}`, `{{step}}`, `{{message}}`, `{{repair}}`
and `{{job}}` are filled in word by word; it runs at most once in 30 seconds for a rule and at most for 10 rules. What
was done stands in `findings.json` under `actions`.
"""

ZOO = """## How often they are right

The sick-run zoo (`tests/zoo/`) plants {faults} mistakes in small trainings on handwritten digits, each with 3 seeds
(SGD and AdamW) and 2 architectures (residual with batch norm; plain without), and runs {sound} distinct healthy ones
beside them: other rates, batches, optimizers, activations, widths, schedules, augmentations, data. {blind} more did not
learn within their few epochs and are not counted as healthy. A mistake is *named* where one of the rules that it calls
for found something at warning or error within the run. Thresholds were chosen on seed {tuned} and on the first half of
the healthy runs; the other seeds and the other half confirm them.

### Mistake by mistake
"""
MISTAKES = ("mistake", "named by", "chosen on", "confirmed on", "the twin without it")

ALARMS = """### Rule by rule

*Detected* are the runs with a mistake that calls for the rule; *false alarms* the healthy runs in which it
found something at warning or error, with the upper end of Wilson's 95 % interval; *info* what it found there for people
to look at. A dash: no mistake of the zoo calls for the rule, or none of its runs has what the rule needs.
"""
RULES = ("rule", "detected", "false alarms", "at most", "second half alone", "info")
NOTHING = "–"


def page(results: list[dict[str, Any]]) -> str:
    """The whole page."""
    parts = [HEAD.format(count=len(SAGEMAKER) + len(OURS)), _measured(results)]
    parts += ["## SageMaker's rules\n", *(_rule(rule) for rule in SAGEMAKER)]
    parts += ["## Our own\n", *(_rule(rule) for rule in OURS)]
    return "\n".join(parts).rstrip() + "\n"


def _rule(rule: type[Rule]) -> str:
    doc = inspect.getdoc(rule) or ""
    what, _, rest = doc.partition("\n\n")
    for word in ("Source:", "Severity:", "Repair:"):
        rest = rest.replace(f" {word}", f"\n{word}").replace(f"\n{word}", f"\n- **{word[:-1]}**:")
    rest = "- **Mathematics**" + " ".join(rest.split()).removeprefix("Mathematics").replace(" - **", "\n- **")
    given = ", ".join(f"`{name}={_shown(value)}`" for name, value in rule.sagemaker.items())
    lines = [f"### {rule.name}\n", " ".join(what.split()), "", rest]
    if given:
        lines.append(f"- **SageMaker's parameters**: {given}")
    lines.append(f"- **Not applicable without**: {rule.needs}")
    return "\n".join(_filled(line) for line in lines) + "\n"


def _shown(value: Any) -> str:
    return str(value) if value != "" else "''"


def _filled(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    return "\n".join(
        textwrap.fill(line, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: int) -> list[str]:
    """A Markdown table whose source is aligned, too; the last `right` columns stand at the right."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    left = len(head) - right

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width + 2)}" if place < left else f"{'-' * (width + 1)}:" for place, width in enumerate(widths)]
    return [line(head), f"|{'|'.join(rule)}|", *map(line, rows)]


def _measured(results: list[dict[str, Any]]) -> str:
    """The two tables of the zoo."""
    found = [each for each in results if each["kind"].startswith("fault")]
    twins = [each for each in results if each["kind"].startswith("twin")]
    whole = [each for each in results if each["kind"] == "healthy"]
    sound = [each for each in whole if each["accuracy"] >= LEARNT]
    head = ZOO.format(faults=len(FAULTS), sound=len(sound), blind=len(whole) - len(sound), tuned=TUNED[0])
    named, rows = 0, []
    for fault in FAULTS:
        runs = [each for each in found if each["name"] == fault.name]
        first = [each for each in runs if each["number"] in TUNED]
        other = [each for each in runs if each["number"] not in TUNED]
        named += sum(map(_hit, runs)) > len(runs) / 2
        alarms = [each for each in twins if each["name"] == fault.twin_name and _alarms(each)]
        twin = "; ".join(sorted({", ".join(_alarms(each)) for each in alarms})) or "quiet"
        chosen, confirmed = (f"{sum(map(_hit, each))} of {len(each)}" for each in (first, other))
        rows.append((fault.name, _named_by(fault, runs), chosen, confirmed, twin))
    every = sum(map(_hit, found))
    bound = wilson(every, max(1, len(found)))
    said = (
        f"{named} of {len(FAULTS)} mistakes are named, in {every} of {len(found)} runs ({100 * bound.value:.0f} %; "
        f"95 % interval {100 * bound.low:.0f} to {100 * bound.high:.0f})."
    )
    table = _table(MISTAKES, rows, right=0)
    return "\n".join([head, *table, "", _filled(said), "", *_false_alarms(found, sound)]) + "\n"


def _named_by(fault: Fault, runs: list[dict[str, Any]]) -> str:
    """The rules that named it, or those that only gave something to look at."""
    told = [rule for rule in fault.rules if any(rule in each["fired"] for each in runs)]
    if any(map(_hit, runs)) or not told:
        return ", ".join(f"`{rule}`" for rule in told) or NOTHING
    return f"{NOTHING} ({', '.join(f'`{rule}`' for rule in told)}: info)"


def _false_alarms(found: list[dict[str, Any]], sound: list[dict[str, Any]]) -> list[str]:
    rows = []
    for rule in SAGEMAKER + OURS:
        calls = {fault.name for fault in FAULTS if rule.name in fault.rules}
        runs = [each for each in found if each["name"] in calls]
        hits = sum(rule.name in each["fired"] for each in runs)
        looked = [each for each in sound if rule.name in each["looked"]]
        false = [each for each in looked if rule.name in _alarms(each)]
        told = sum(each["fired"].get(rule.name) == "info" for each in looked)
        half = [each for each in looked if each["number"] >= 65]
        later = sum(each in half for each in false)
        detected = f"{hits} of {len(runs)}" if runs else NOTHING
        bound = f"{100 * wilson(len(false), len(looked)).high:.1f} %" if looked else ""
        counted = (f"{len(false)} of {len(looked)}", bound, f"{later} of {len(half)}", str(told))
        rows.append((f"`{rule.name}`", detected, *(counted if looked else (NOTHING,) * 4)))
    return [ALARMS, *_table(RULES, rows, right=5)]


def _alarms(result: dict[str, Any]) -> list[str]:
    return sorted(rule for rule, severity in result["fired"].items() if severity != "info")


def _hit(result: dict[str, Any]) -> bool:
    fault = next(each for each in FAULTS if each.name == result["name"])
    told = {rule for rule, severity in result["fired"].items() if severity != "info" or rule == "label_suspects"}
    return bool(told & set(fault.rules))


def results() -> list[dict[str, Any]]:
    """The results of the last whole zoo."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text())
    return found
