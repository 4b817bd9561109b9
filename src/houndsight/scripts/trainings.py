"""The trainings of one script, one after another: each has a debugger, and all of them one course of steps."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from houndsight.folders import JobFolder
from houndsight.records.rules.engine import Engine
from houndsight.records.tensors import STATISTICS
from houndsight.records.writer import RecordWriter
from houndsight.scripts.found import joined
from houndsight.scripts.models import moved_by, parts
from houndsight.scripts.settings import HookSettings
from houndsight.spec import Finding
from houndsight.watch.debugger import Debugger
from houndsight.watch.loops import LoopDebugger

IDLE = 24
"""Steps after which an optimizer that no longer steps is left out of what makes a step."""
CHANGES = 16
"""Most changes of what steps in one training; after them everything stays as it is."""


class ScriptEngine(Engine):
    """The rules over one training of a script, in a document with what was found before and beside them."""

    beside: Callable[[], Sequence[Finding]] = tuple
    """What was found otherwise."""
    written: Callable[[], None] | None = None
    """Called before the document is written."""

    def document(self) -> dict[str, Any]:
        """What stands in `findings.json`."""
        if self.written is not None:
            self.written()  # a finding may ask for the script to be stopped: nothing recorded is to be lost
        whole = super().document()
        found = joined(self.findings(), self.beside())
        return {**whole, "findings": [each.model_dump(mode="json") for each in found]}


class Trainings:
    """The debugger of the present training, and how one follows the other."""

    def __init__(self, job: JobFolder, settings: HookSettings, records: RecordWriter) -> None:
        self._job, self._records = job, records
        self.settings = settings
        self.loop: LoopDebugger | None = None
        """The present training."""
        self.step = 0
        """Training steps of those that are over."""
        self.found: list[Finding] = []
        """What was found in those that are over, and by whoever looks beside the rules."""
        self.broken: Exception | None = None
        """The mistake of its own by which a debugger let go."""
        self.inside: set[int] = set()
        """Identities of all modules of the models."""
        self._models: list[nn.Module] = []
        self._optimizers: list[torch.optim.Optimizer] = []
        self._parameters: set[int] = set()
        self._last: dict[int, int] = {}
        self._changes = 0

    @property
    def debugger(self) -> Debugger | None:
        """The present debugger."""
        return None if self.loop is None else self.loop.debugger

    def knows(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether this optimizer makes steps of the present training."""
        return any(each is optimizer for each in self._optimizers)

    def attend(
        self, models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer], facts: dict[str, Any]
    ) -> None:
        """Watch these models and optimizers: as a new training where they share nothing with the present one."""
        moved = set(moved_by(optimizers))
        inside = parts(models)
        if self.loop is not None and self.inside.isdisjoint(inside) and self._parameters.isdisjoint(moved):
            self.end()
        self._models, self._optimizers = list(models), list(optimizers)
        self.inside, self._parameters = inside, moved
        step = self.step if self.debugger is None else self.debugger.steps["train"]
        self._last = {id(each): step for each in optimizers}
        if self.loop is not None:
            self.loop.follow(self._models, self._optimizers)
            return
        debugger = Debugger(
            self._job.records,
            self.settings.debug,
            rules=self._rules,
            checkpoints=self._job.checkpoints,
            facts={"training_step": self.step, "own_loop": True, **facts},
        )
        debugger.told = True
        self._changes = 0
        loop = LoopDebugger(debugger, self._models, self._optimizers, self._records, step=self.step)
        debugger.steps["train"] = self.step
        loop.__enter__()
        self.loop = loop

    def steps(self, optimizer: torch.optim.Optimizer) -> bool:
        """An optimizer is about to step; whether that belongs to a training that is watched.

        One that comes anew joins those that step; one that has not stepped for long no longer counts.
        """
        if self.loop is None:
            return False
        now = self.loop.debugger.steps["train"]
        key = id(optimizer)
        if key not in self._last or not self.knows(optimizer):
            if self._changes >= CHANGES or not self.concerns(optimizer):
                return False
            self._changes += 1
            active = [each for each in self._optimizers if now - self._last[id(each)] <= IDLE]
            self.attend(self._models, [*active, optimizer], {})
        self._last[key] = now
        idle = [each for each in self._optimizers if now - self._last[id(each)] > IDLE]
        if idle and self._changes < CHANGES:
            self._changes += 1
            self.attend(self._models, [each for each in self._optimizers if each not in idle], {})
        return True

    def concerns(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the optimizer moves anything of the models that are watched."""
        held = {id(each) for model in self._models for each in model.parameters()}
        return not held.isdisjoint(moved_by([optimizer]))

    def end(self) -> None:
        """The present training is over: write and judge what is left of it, and let go of its objects."""
        loop, self.loop = self.loop, None
        if loop is None:
            return
        self._models, self._optimizers = [], []
        self.inside, self._parameters, self._last = set(), set(), {}
        loop.__exit__(None, None, None)
        self.step = loop.debugger.steps["train"]
        self.broken = self.broken or loop.debugger.broken
        self.found += [each for each in loop.findings if each.status == "IssuesFound" and each not in self.found]

    def _rules(self, facts: dict[str, Any]) -> Engine:
        settings = self.settings
        engine = ScriptEngine(
            facts, settings.rules, on_finding=settings.on_finding, statistics=STATISTICS, folder=self._job
        )
        engine.beside = lambda: list(self.found)
        engine.written = self._records.flush
        return engine
