"""Asks every rule after each moment of a training, live or from the records, and writes what they found."""

import logging
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from houndsight.errors import SpecError, did_you_mean
from houndsight.folders import JobFolder
from houndsight.records.rules.beside import checked, training_files
from houndsight.records.rules.history import History
from houndsight.records.rules.moment import Moment
from houndsight.records.rules.rule import SCALARS, Rule
from houndsight.records.rules.settings import Asked, filled, parse, parse_action
from houndsight.records.rules.similar_across_runs import Other, SimilarAcrossRuns
from houndsight.records.rules.stalled_training import StalledTraining
from houndsight.records.rules.table import BY_NAME, RULES
from houndsight.records.tensors import STATISTICS
from houndsight.records.writer import RecordWriter
from houndsight.spec import Finding
from houndsight.workspace import write_json

log = logging.getLogger("houndsight")

MOST = 5  # findings of one rule in one run; what comes after them says nothing new
EVERY = 16  # losses that come alone, until the rules are asked
COMMANDS, COMMAND_SECONDS = 10, 30.0  # commands in one run, and the least time between two of one rule
_RANK = {"info": 0, "warning": 1, "error": 2}


class Engine:
    """All rules over one run.

    `feed` takes the moments in the order of their steps; parts of one step and mode may come one after the other and
    are judged together as soon as another step or mode begins, or with `flush`. The same moments give the same
    findings whether they come live or from the records; a moment without a time holds scalars that stand in no record
    yet, and they are added there. With `folder`, `findings.json` is rewritten at every change and the actions are
    carried out. `strict` lets a mistake in a rule through; otherwise it becomes a finding with the status Error, and
    the other rules go on. Not safe to call from two threads at once.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        rules: Sequence[str] = (),
        *,
        on_finding: str = "none",
        statistics: Sequence[str] = STATISTICS,
        folder: JobFolder | None = None,
        strict: bool = False,
    ) -> None:
        """`rules` as `settings.parse` takes them; raises `SpecError` for a rule or parameter that is not there."""
        asked = parse(rules)
        self.past = False
        """Whether what is fed is long over: nothing is written or done about it then."""
        self.stop = False
        """Whether a finding asks for the training to stop, with a checkpoint."""
        self.actions: list[dict[str, Any]] = []
        """What was done because of findings."""
        self.running: list[subprocess.Popen[bytes]] = []
        """The commands that were started; they outlive the engine."""
        self._action = parse_action(on_finding)
        self._history = History(dict(facts), statistics)
        self._rules = [kind(asked.given.get(kind.name)) for kind in _chosen(asked)]
        self._found: dict[str, list[Finding]] = {rule.name: [] for rule in self._rules}
        self._hearing: dict[frozenset[str], list[Rule]] = {}
        self._broken: dict[str, str] = {}
        self._pending: Moment | None = None
        self._folder, self._strict, self._closed = folder, strict, False
        self._alone = 0
        self._told: RecordWriter | None = None
        self._commanded: dict[str, float] = {}

    @property
    def history(self) -> History:
        """What the rules remember."""
        return self._history

    def know(self, files: Sequence[str], check: list[dict[str, Any]] | None) -> None:
        """Give the rules the path of each training image by its position, and what the data check found, or None.

        An engine with a folder finds both there.
        """
        self._history.files, self._history.check = files, check

    def compare(self, settings: dict[str, Any], others: Sequence[Other]) -> None:
        """Give the rules other runs to compare this one with, and what was asked for this one."""
        for rule in self._rules:
            if isinstance(rule, SimilarAcrossRuns):
                rule.settings, rule.others = settings, tuple(others)

    def tick(self, now: float) -> list[Finding]:
        """Tell the time (seconds since the epoch) while no moment comes; returns what is newly found."""
        silent = [rule for rule in self._rules if isinstance(rule, StalledTraining)]
        return self._ask(
            lambda rule: rule.tick(now, self._history) if isinstance(rule, StalledTraining) else (), silent
        )

    def feed(self, moment: Moment) -> list[Finding]:
        """Take one moment, or a part of one; returns what is newly found, which may be about the moment before it."""
        self._keep(moment)
        pending = self._pending
        if pending is not None and (pending.step, pending.mode) == (moment.step, moment.mode):
            self._pending = pending.joined(moment)
            return []
        new = self.flush()
        self._pending = moment
        return new

    def _keep(self, moment: Moment) -> None:
        """Add to the records what only the rules were told, so that they can be asked again afterwards."""
        if self._folder is None or self.past or not moment.scalars or moment.time > 0:
            return
        if self._told is None:
            self._told = RecordWriter(self._folder.records)
        self._told.scalars(moment.step, moment.scalars, moment.mode)

    def flush(self) -> list[Finding]:
        """Judge what waits for further parts of its step."""
        moment, self._pending = self._pending, None
        if moment is None:
            return []
        self._history.add(moment)
        parts = _parts(moment)
        if parts == SCALARS and moment.mode == "train" and all(map(isfinite, moment.scalars.values())):
            # A loss alone is remembered. Asking everyone after each step of a small head, 0.7 ms, would take longer.
            self._alone += 1
            parts = SCALARS if self._alone % EVERY == 0 else frozenset()
        hearing = self._hearing.get(parts)
        if hearing is None:
            hearing = self._hearing[parts] = [rule for rule in self._rules if rule.hears & parts]
        return self._ask(lambda rule: rule.judge(self._history), hearing)

    def close(self) -> list[Finding]:
        """Judge what is left, let every rule say its last word, and return `findings`."""
        if not self._closed:
            self.flush()
            self._history.end()
            if self._folder is not None:
                self.know(training_files(self._folder), checked(self._folder))
            self._closed = True
            self._ask(lambda rule: rule.finish(self._history), self._rules)
            self._write()
            if self._told is not None:
                self._told.close()
        return self.findings()

    def findings(self) -> list[Finding]:
        """What was found, and for every rule that found nothing how it stands."""
        found = []
        for rule in self._rules:
            found += self._found[rule.name] or [self._standing(rule)]
        return found

    def document(self) -> dict[str, Any]:
        """What stands in `findings.json`."""
        return {"findings": [each.model_dump(mode="json") for each in self.findings()], "actions": self.actions}

    def _ask(self, question: Callable[[Rule], Iterable[Finding]], rules: Sequence[Rule]) -> list[Finding]:
        new: list[Finding] = []
        with np.errstate(all="ignore"):  # what is not finite is what rules look for
            for rule in rules:
                found = self._found[rule.name]
                if len(found) >= MOST or rule.name in self._broken:
                    continue
                try:
                    said = list(question(rule))
                except Exception as error:
                    if self._strict:
                        raise
                    self._broken[rule.name] = f"{type(error).__name__}: {error}"
                    log.warning("The rule %s came to an end by a mistake of its own (%s).", rule.name, error)
                    continue
                if said:
                    found += said
                    new += said
        if new and not self.past:
            for finding in new:
                self._act(finding)
            self._write()
        return new

    def _standing(self, rule: Rule) -> Finding:
        status, message = "InProgress", "Nothing found so far."
        if rule.name in self._broken:
            status, message = "Error", f"The rule itself failed: {self._broken[rule.name]}."
        elif not rule.looked and self._closed:
            status, message = "NotApplicable", f"Not recorded: {rule.needs}."
        elif self._closed:
            status, message = "NoIssuesFound", "Nothing found."
        return Finding.model_validate(
            {"source": "debugger", "rule": rule.name, "status": status, "severity": "info", "message": message}
        )

    def _write(self) -> None:
        if self._folder is not None:
            write_json(self._folder.findings, self.document())

    def _act(self, finding: Finding) -> None:
        action = self._action
        if action.kind == "none" or _RANK[finding.severity] < _RANK[action.severity]:
            return
        done: dict[str, Any] = {"action": action.kind, "rule": finding.rule, "step": finding.step, "time": time.time()}
        if action.kind == "stop":
            if self.stop:
                return
            self.stop = True
            if self._folder is not None:
                self._folder.stop_request.touch()
        else:
            since = time.monotonic() - self._commanded.get(finding.rule, -COMMAND_SECONDS)
            if len(self._commanded) >= COMMANDS or since < COMMAND_SECONDS:
                return
            self._commanded[finding.rule] = time.monotonic()
            done["command"] = command = filled(action.command, self._values(finding))
            try:
                self.running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True))
            except OSError as error:
                done["failed"] = str(error)
        self.actions.append(done)

    def _values(self, finding: Finding) -> dict[str, str]:
        return {
            "rule": finding.rule,
            "severity": finding.severity,
            "step": "" if finding.step is None else str(finding.step),
            "message": finding.message,
            "repair": finding.repair,
            "job": "" if self._folder is None else self._folder.name,
        }


def _parts(moment: Moment) -> frozenset[str]:
    there = {
        "tensors": moment.values is not None,
        "scalars": bool(moment.scalars),
        "samples": moment.samples is not None,
        "confusion": moment.confusion is not None,
    }
    return frozenset(part for part, given in there.items() if given)


def check(rules: Sequence[str], on_finding: str) -> None:
    """Raise `SpecError` for all that could not be honoured of rules and action, at once; before a job is made."""
    wrong = []
    for asked in [*([each] for each in rules), list(rules)]:
        try:
            Engine({}, asked)
        except SpecError as error:
            wrong.append(error)
    try:
        parse_action(on_finding)
    except SpecError as error:
        wrong.append(error)
    said = list(dict.fromkeys(str(error) for error in wrong))
    if len(said) > 1:
        raise SpecError(f"{len(said)} settings of the rules are wrong: " + " ".join(said))
    if wrong:
        raise wrong[0]


def _chosen(asked: Asked) -> list[type[Rule]]:
    for name in [*asked.given, *asked.off]:
        if name not in BY_NAME:
            raise SpecError(f"There is no rule '{name}'.", did_you_mean(name, BY_NAME) or "docs/rules.md lists them.")
    return [] if asked.none else [kind for kind in RULES if kind.name not in asked.off]
