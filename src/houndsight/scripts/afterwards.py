"""What is said of a script when it has ended, however it ended: its findings, from the watcher or from the records."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from houndsight.folders import JobFolder
from houndsight.records.facts import read_facts
from houndsight.records.rules.engine import Engine
from houndsight.records.rules.evaluate import moments
from houndsight.records.rules.named import named
from houndsight.scripts.found import WATCHER, joined
from houndsight.spec import Finding, ScriptSpec
from houndsight.workspace import write_json

log = logging.getLogger("houndsight")


def conclude(job: JobFolder, spec: ScriptSpec) -> list[Finding]:
    """Write `findings.json` whole: what the rules found while the script ran, or find now, and how each one stands.

    A script that was killed leaves what it wrote until then; the rules are asked about that. Says in the log what was
    found. Nothing is done where watching is off.
    """
    if spec.debug == "off":
        return []
    watcher = _read(job.records / WATCHER)
    document = _read(job.findings)
    live = [Finding.model_validate(each) for each in document.get("findings", [])]
    state = watcher.get("state")
    whole = live if state == "ended" and live else _asked(job, spec, live)
    if state == "broken":
        whole = [*whole, _broken(str(watcher.get("error", "it ended without a word")))]
    write_json(
        job.findings,
        {"findings": [each.model_dump(mode="json") for each in whole], "actions": document.get("actions", [])},
    )
    for each in whole:
        if each.status == "IssuesFound" and each.source != "script":
            where = "" if each.step is None else f"Step {each.step}: "
            (log.info if each.severity == "info" else log.warning)("%s%s %s", where, each.message, each.repair)
    return whole


def _asked(job: JobFolder, spec: ScriptSpec, live: Sequence[Finding]) -> list[Finding]:
    """The rules, asked about the records of the last training; what was found while they were written stays."""
    facts = read_facts(job.records)
    engine = Engine(facts, named(spec.rules).debugger)
    begun = int(facts.get("training_step", 0))
    engine.past = True
    for moment in moments(job):
        if moment.step >= begun and moment.mode != "script":
            engine.feed(moment)
    engine.flush()
    engine.past = False
    found = engine.close()
    before = [each for each in live if each.status == "IssuesFound"]
    known = {(each.rule, each.step) for each in before}
    return joined([each for each in found if (each.rule, each.step) not in known], before)


def _broken(error: str) -> Finding:
    return Finding(
        source="debugger",
        rule="debugger",
        status="Error",
        severity="info",
        message=f"The watcher let go of the script by a mistake of its own ({error}).",
        repair="The script is untouched by it; --debug off runs it without the watcher.",
    )


def _read(path: Any) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return document
