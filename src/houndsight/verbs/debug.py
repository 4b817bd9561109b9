"""Debug: watch a training loop of one's own; it becomes a job of the workspace like any other."""

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from houndsight.backends import base, process
from houndsight.backends.lock import held
from houndsight.errors import HoundsightError, SpecError
from houndsight.folders import JobFolder
from houndsight.records.rules.engine import Engine
from houndsight.records.tensors import STATISTICS
from houndsight.records.writer import RecordWriter
from houndsight.reports import summary
from houndsight.reports.notebook import Findings
from houndsight.spec import LoopSpec, Status
from houndsight.watch import aside, workers
from houndsight.watch.debugger import MODES, Debugger
from houndsight.watch.loops import LoopDebugger
from houndsight.watch.plan import Collection, DebugSpec, Schedule
from houndsight.workspace import Workspace, write_json

log = logging.getLogger("houndsight")

BASE = "SAGEMAKER_BASE_DIR"  # by which a script that runs as a job learns its folder


def debug(
    models: Any,
    optimizers: Any = None,
    *,
    name: str | None = None,
    workspace: str | Path | None = None,
    interval: int | None = None,
    start: int = 0,
    end: int | None = None,
    steps: Sequence[int] = (),
    modes: Mapping[str, Mapping[str, Any]] | None = None,
    collections: Mapping[str, str | Sequence[str] | Mapping[str, Any]] | None = None,
    leave_out: Sequence[str] = (),
    raw: Sequence[str] = (),
    exact: bool = False,
    budget: float = 0.01,
    rules: Sequence[str] = (),
    on_finding: str = "none",
    scaler: Any = None,
    strict: bool = False,
) -> "LoopJob":
    """Watch a training loop: `with houndsight.debug(model, optimizer) as dbg:` around it.

    `models` and `optimizers` are one or several. Without `interval` statistics are saved as often as `budget` (a share
    of the CPU time of the steps) allows. `modes` are schedules by mode: `{"eval": {"interval": 10}}`. `collections` are
    regular expressions by name, or `{"include": [...], "modules": [...], "raw": True}`; the inputs and outputs of
    modules are taken where `modules` finds their names. `raw` names collections whose tensors are written themselves.
    `rules` and `on_finding` are those of `houndsight train`. Nothing of the loop is changed, and what the debugger
    finds is in `dbg.findings`, in the log, and on the job's page. Raises `SpecError` for settings that are wrong.
    """
    spec = DebugSpec.create(
        schedule=Schedule.create(interval=interval, start=start, end=end, steps=tuple(steps)),
        modes={_mode(mode): Schedule.create(**each) for mode, each in (modes or {}).items()},
        collections={key: _collection(each) for key, each in (collections or {}).items()},
        leave_out=tuple(leave_out),
        raw=tuple(raw),
        exact=exact,
        budget=budget,
    )
    return LoopJob(_several(models), _several(optimizers), spec, name, workspace, rules, on_finding, scaler, strict)


class LoopJob:
    """A watched loop: a context manager, and afterwards the way to what was found."""

    def __init__(
        self,
        models: list[Any],
        optimizers: list[Any],
        spec: DebugSpec,
        name: str | None,
        workspace: str | Path | None,
        rules: Sequence[str],
        on_finding: str,
        scaler: Any,
        strict: bool,
    ) -> None:
        self._spec, self._rules, self._on_finding = spec, tuple(rules), on_finding
        self._stack = ExitStack()
        self._models, self._optimizers, self._scaler, self._strict = models, optimizers, scaler, strict
        self._worker, self.files, self._own = self._place(name, workspace)
        self._begun: Status | None = None
        self._loop: LoopDebugger | None = None
        self._engine: Engine | None = None

    def _place(self, name: str | None, workspace: str | Path | None) -> tuple[int, JobFolder, bool]:
        """Number of this worker, the job's folder, and whether it is a job of the loop's own."""
        inside = os.environ.get(BASE)
        if inside and name is None and (Path(inside) / "spec.json").is_file():
            return workers.rank(), JobFolder(Path(inside)), False
        kinds = [[type(each).__name__ for each in group] for group in (self._models, self._optimizers)]
        spec = LoopSpec(program=sys.argv[0], models=kinds[0], optimizers=kinds[1], rules=self._rules)
        Engine({}, self._rules, on_finding=self._on_finding)  # raises what is wrong with them before there is a job
        place = Workspace.find(workspace)
        folder = workers.shared(lambda: str(place.create(spec, name, "inline").path))
        return workers.rank(), JobFolder(Path(folder)), True

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.files.name

    @property
    def findings(self) -> Findings:
        """What was found so far; after the block how every rule ended."""
        if self._loop is None:
            return Findings()
        return Findings(self._loop.findings or self._loop.debugger.outlet.findings)

    @property
    def overhead(self) -> float:
        """Share of the CPU time of the steps that the debugger took."""
        return self._loop.debugger.governor.overhead if self._loop else 0.0

    @property
    def should_stop(self) -> bool:
        """Whether a rule, or `houndsight stop`, asks the loop to end."""
        return self.files.stop_request.exists()

    @property
    def step(self) -> int:
        """The present training step, from 0."""
        return self._entered.step

    def mode(self, mode: str) -> None:
        """Say what follows: `train`, `eval`, `predict` or `global`; without it the debugger finds out by itself."""
        _mode(mode)
        self._entered.mode(mode)

    def loss(self, value: Any) -> None:
        """Say what the loss of the present step is, where it is not one of torch's functions."""
        self._entered.loss(value)

    def scalar(self, name: str, value: float) -> None:
        """Record a number of the loop's own."""
        self._entered.scalar(name, value)

    @property
    def _entered(self) -> LoopDebugger:
        if self._loop is None:
            raise SpecError("The debugger does not watch yet.", "Write `with houndsight.debug(...) as dbg:`.")
        return self._loop

    def __enter__(self) -> Self:
        aside.ask()
        first = self._worker == 0
        records = None
        if first:
            if self._own:
                self._stack.enter_context(held(self.files))
                self._begin()
            self._stack.enter_context(_heard(self.files.log if self._own else None))
            records = self._stack.enter_context(RecordWriter(self.files.records))
        debugger = Debugger(
            self.files.records,
            self._spec,
            rules=self._rules_of if first else None,
            worker=self._worker,
            strict=self._strict,
        )
        self._loop = LoopDebugger(debugger, self._models, self._optimizers, records, scaler=self._scaler)
        self._loop.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            loop = self._entered
            loop.__exit__(kind, error, trace)
            self._models, self._optimizers = [], []
            if self._worker == 0:
                log.info("%s", loop.debugger.summary())
                if self._own:
                    self._end(error)
        if self._worker == 0 and self._own:
            summary.build(self.files)

    def _rules_of(self, facts: dict[str, Any]) -> Engine:
        return Engine(facts, self._rules, on_finding=self._on_finding, statistics=STATISTICS, folder=self.files)

    def _begin(self) -> None:
        pid = os.getpid()
        self._begun = Status(
            state="RUNNING", backend="inline", pid=pid, pid_started=process.started(pid),
            created=time.time(), started=time.time(),
        )  # fmt: skip
        write_json(self.files.status, self._begun)

    def _end(self, error: BaseException | None) -> None:
        assert self._begun is not None
        changes: dict[str, Any] = {"state": "COMPLETED", "exit_code": 0}
        if isinstance(error, KeyboardInterrupt):
            changes = {"state": "STOPPED", "exit_code": 0, "reason": "interrupted"}
        elif error is not None:
            said = str(error) if isinstance(error, HoundsightError) else f"{type(error).__name__}: {error}"
            changes = {"state": "FAILED", "exit_code": 1, "reason": said}
        base.settle(self.files, self._begun.model_copy(update={**changes, "ended": time.time()}))


class _heard:  # noqa: N801 - used as a function
    """While it lasts what Houndsight says goes to the job's log, and to standard error where nobody else prints it."""

    def __init__(self, path: Path | None) -> None:
        self._handlers: list[logging.Handler] = [] if path is None else [logging.FileHandler(path, encoding="utf-8")]
        if not logging.getLogger().handlers and not log.handlers:
            self._handlers.append(logging.StreamHandler())

    def __enter__(self) -> None:
        self._level = log.level
        for each in self._handlers:
            log.addHandler(each)
        if log.getEffectiveLevel() > logging.INFO:
            log.setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        log.setLevel(self._level)
        for each in self._handlers:
            log.removeHandler(each)
            each.close()


def _several(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _mode(mode: str) -> str:
    if mode not in MODES:
        raise SpecError(f"There is no mode '{mode}'.", f"Say one of {', '.join(MODES)}.")
    return MODES[mode]


def _collection(given: str | Sequence[str] | Mapping[str, Any]) -> Collection:
    if isinstance(given, str):
        return Collection.create(include=(given,))
    if isinstance(given, Mapping):
        return Collection.create(**{"include": (), **given})
    return Collection.create(include=tuple(given))
