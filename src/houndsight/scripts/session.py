"""The one watcher of a script's process: it finds models, optimizers and losses by itself and writes into the job.

Nothing of the script is changed: functions of torch's classes are wrapped while the session lasts, the script's own
objects carry nothing outside of saved forward passes, no random number is drawn, and nothing is printed. A mistake of
the session's own ends the session, never the script; `records/watcher.json` says so.
"""

import atexit
import fcntl
import logging
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import nn
from torch.optim import optimizer as optimizers

from houndsight.folders import JobFolder
from houndsight.records.timeline import LOOP
from houndsight.records.writer import RecordWriter
from houndsight.scripts import armed, look_live, smdebug_hook
from houndsight.scripts.found import WATCHER
from houndsight.scripts.models import holds, models_of, moved_by
from houndsight.scripts.settings import HookSettings
from houndsight.scripts.timeline import Spans, WatchedLoop
from houndsight.scripts.trainings import Trainings
from houndsight.watch import aside
from houndsight.watch.debugger import Debugger
from houndsight.watch.modules import Hook
from houndsight.workspace import write_json

log = logging.getLogger("houndsight")

State = Literal["running", "ended", "aside", "broken"]

_session: list["Session"] = []


def current() -> "Session | None":
    """The session of this process; None outside of jobs, in data workers and in other children of a script."""
    settings = armed.settings_of_this_process()
    if settings is None:
        return None
    if not _session:
        _session.append(Session(HookSettings.read(Path(settings))))
    return _session[0]


def optimizer_made(optimizer: torch.optim.Optimizer) -> None:
    """The script has made an optimizer: it is going to train."""
    session = current()
    if session is not None:
        session.optimizer_made(optimizer)


class Session:
    """From the first optimizer to the end of the process."""

    def __init__(self, settings: HookSettings) -> None:
        self.settings = settings
        self.job = JobFolder(Path(settings.folder))
        self._stack = ExitStack()
        self._state: State | None = None
        self._trainings: Trainings | None = None
        self._new: list[weakref.ref[torch.optim.Optimizer]] = []
        self._strangers: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._registered: list[nn.Module] = []
        self._said: str | None = None
        self._evaluates, self._in_eval = False, False
        self._evaluations = look_live.Evaluations(self.job.code)
        self._data: Any = None
        self._error: Exception | None = None
        self._hook: smdebug_hook.Hook | None = None  # what saves tensors for the readers of smdebug

    # ------------------------------------------------------------------------------------- what may be asked of it

    @property
    def debugger(self) -> Debugger | None:
        """The debugger of the present training; None before a model trains."""
        return None if self._trainings is None else self._trainings.debugger

    def register_module(self, model: nn.Module) -> None:
        """Watch this model, whatever part of it the script calls."""
        if not any(each is model for each in self._registered):
            self._registered.append(model)

    def register_loss(self, module: nn.Module) -> None:
        """Hear the loss that this module computes, where it is none of torch's own."""
        if type(module).__module__.startswith("torch.nn.") or self.settings.off:
            return
        handle = module.register_forward_hook(Hook(lambda _module, _given, made: self._heard(made)))
        self._stack.callback(handle.remove)

    def set_mode(self, mode: str | None) -> None:
        """Say what follows: `train`, `eval`, `predict` or `global`; None finds out by itself."""
        with self._care():
            self._said = mode
            if self.debugger is not None:
                self.debugger.mode(mode)

    def scalar(self, name: str, value: float) -> None:
        """Record a number of the script's own at the present step."""
        with self._care():
            if self._begin():
                mode = self.debugger.mode_now() if self.debugger is not None else "train"
                self._records.scalar(name, float(value), step=self._step, mode=mode)

    def close(self, state: State = "ended") -> None:
        """Let go of everything and write what is left; more than one call is allowed."""
        if self._state != "running" or armed.settings_of_this_process() is None:
            return
        with self._care():
            self._found(self._evaluations.over())
            assert self._trainings is not None
            self._trainings.end()
            self._error = self._error or self._trainings.broken
            self._loop.close(self.job.records / LOOP)
        self._let_go(state if self._error is None else "broken")

    # ------------------------------------------------------------------------------------- beginning and end

    def optimizer_made(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer is there: what it moves is watched from the next forward pass on."""
        with self._care():
            if self._begin():
                assert self._trainings is not None
                self._new.append(weakref.ref(optimizer))
                self._strangers.clear()
                if self._trainings.loop is not None and not self._trainings.concerns(optimizer):
                    self._trainings.end()  # another model is made: the last one need not live any longer for our sake
                    if self._hook is not None and not self._hook.saver.root_known:
                        self._hook.saver.forget()

    def _begin(self) -> bool:
        """Begin to watch, once; whether it is watched."""
        if self._state is not None or self.settings.off:
            return self._state == "running"
        lock = _locked(self.job.records)
        if lock is None:
            self._state = "aside"  # another process of the job is watched already
            return False
        self._state = "running"
        os.environ[armed.WATCHED] = str(os.getpid())
        self._stack.callback(lock.close)
        self._stack.enter_context(_quiet())
        self._write()
        self._records = self._stack.enter_context(RecordWriter(self.job.records))
        self._trainings = Trainings(self.job, self.settings, self._records)
        spans = self._stack.enter_context(Spans(self.job.records / LOOP, self._broke, on=self.settings.profile))
        self._loop = WatchedLoop(spans, self, self.job.code, self._broke)
        self._stack.callback(self._loop.detach)
        self._loop.attach()
        self._hook = smdebug_hook.begin()
        for register, hook in (
            (optimizers.register_optimizer_step_pre_hook, self._before_step),
            (optimizers.register_optimizer_step_post_hook, self._after_step),
        ):
            self._stack.callback(register(hook).remove)
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)
        aside.offer(lambda: self.close("aside"))
        return True

    def _let_go(self, state: State) -> None:
        if self._state != "running":
            return
        self._state = state
        try:
            self._stack.close()
        except Exception as error:  # noqa: BLE001 - the script goes on; what happened stands in the file
            self._error = self._error or error
            self._state = "broken"
        self._new.clear()
        if self._hook is not None and (state != "broken" or not self._hook.saver.root_known):
            self._hook.close()
        self._write()

    def _forget(self) -> None:
        """In a process that was forked: what the classes of torch were before, and nothing is watched or written."""
        if self._state == "running":
            self._state = "aside"
            self._loop.detach()
            if self._trainings is not None and self._trainings.loop is not None:
                self._trainings.loop.forget()

    def _write(self) -> None:
        document: dict[str, Any] = {"state": self._state, "pid": os.getpid(), "time": time.time(), "steps": self._step}
        if self._error is not None:
            document["error"] = f"{type(self._error).__name__}: {self._error}"
        try:
            write_json(self.job.records / WATCHER, document)
        except Exception:  # noqa: BLE001 - the disk is full, or the folder is gone: then the job's end says so
            self._state = "broken" if self._state == "running" else self._state

    def _broke(self, error: Exception) -> None:
        """A mistake of ours, or a disk that is full: let go of the script."""
        self._error = self._error or error
        if self._state == "running":
            if self._trainings is not None and self._trainings.loop is not None:
                self._trainings.loop.debugger.broke(error)
                self._trainings.loop.forget()
                self._trainings.loop.debugger.detach()
            self._let_go("broken")

    @contextmanager
    def _care(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - never the script's: it goes on
            self._broke(error)

    @property
    def _step(self) -> int:
        if self.debugger is not None:
            return self.debugger.steps["train"]
        return 0 if self._trainings is None else self._trainings.step

    # ------------------------------------------------------------------------------------- what the loop does

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """The loop calls a module; whether its end is to be told, too."""
        if self._state != "running":
            return False
        with self._care():
            assert self._trainings is not None
            if self._new and module not in self._strangers:
                self._take_up(module)
            debugger = self._trainings.debugger
            if debugger is None or id(module) not in self._trainings.inside or torch._C._is_tracing():
                return False
            debugger.mode(self._mode(module))
            debugger.before_forward(module, args, dict(kwargs))
            if self._hook is not None and self._hook.saver.told:
                self._hook.saver.before_forward(module, args)
        return self._state == "running"

    def after(self, module: nn.Module, made: Any) -> None:
        """The module has made this."""
        with self._care():
            debugger = self.debugger
            if debugger is not None:
                if self._in_eval:
                    self._evaluations.passed(made, debugger.steps["train"])
                debugger.after_forward(module, (), made)
            if self._hook is not None and self._hook.saver.told:
                self._hook.saver.after_forward(module, (), made)

    def over(self) -> None:
        """The call is over, also where it failed."""
        with self._care():
            if self.debugger is not None:
                self.debugger.forward_over()
            if self._hook is not None and self._hook.saver.told:
                self._hook.saver.forward_over()

    def backward(self, loss: Any) -> None:
        """Gradients are about to be computed from this: it is the loss, where no other was heard."""
        with self._care():
            loop = None if self._trainings is None else self._trainings.loop
            if loop is not None and loop.silent and isinstance(loss, torch.Tensor) and loss.numel() == 1:
                loop.loss(loss)

    def _heard(self, made: Any) -> None:
        with self._care():
            loop = None if self._trainings is None else self._trainings.loop
            if loop is not None and isinstance(made, torch.Tensor) and loop.debugger.mode_now() == "train":
                loop.loss(made.detach().mean())

    def _mode(self, module: nn.Module) -> str | None:
        """What a forward pass belongs to, where gradients alone do not tell: eval mode may be training, too."""
        self._in_eval = False
        if self._said is not None:
            return self._said
        if module.training:
            self._evaluates = True
            self._found(self._evaluations.over())
            return None
        if torch.is_grad_enabled() and self._evaluates:
            self._in_eval = True
            return "eval"
        return None

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._state != "running" or not self._loop.mine():
            return
        with self._care():
            assert self._trainings is not None
            if self._in_eval:  # it learns from passes in eval mode
                self._in_eval = self._evaluates = False
                self._found(self._evaluations.trained())
            if self._new and any(each() is optimizer for each in self._new) and not self._trainings.knows(optimizer):
                self._take_up(None)  # its model is not called as a whole, or not by its name
            if self._trainings.steps(optimizer):
                debugger = self._trainings.debugger
                assert debugger is not None
                self._know_data(debugger)
                debugger.before_step(optimizer)

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._state != "running" or not self._loop.mine():
            return
        with self._care():
            if self._trainings is not None and self._trainings.knows(optimizer) and self.debugger is not None:
                self.debugger.after_step(optimizer)

    def _take_up(self, module: nn.Module | None) -> None:
        """Watch what the new optimizers move, where this call is of it."""
        assert self._trainings is not None
        new = [each for reference in self._new if (each := reference()) is not None]
        wanted = set(moved_by(new))
        if module is not None and not holds(module, wanted):
            self._strangers.add(module)
            return
        own = [each for each in self._registered if holds(each, wanted)]
        models = own or models_of(module, new)
        self._new.clear()
        self._strangers.clear()
        self._data = None
        if models:
            self._evaluates = False
            self._trainings.attend(models, new, {})
            if self._hook is not None:
                self._hook.saver.watch(models[0], known=False)
            if self.debugger is not None:
                self.debugger.mode(self._said)

    def _know_data(self, debugger: Debugger) -> None:
        """Tell the rules of the loader from which the training takes its batches, once it is known."""
        newest = self._loop.seen.newest
        if newest is None or newest is self._data:
            return
        self._data, loader = newest, newest()
        if loader is not None and debugger.steps["train"] <= debugger.governor.first:
            debugger.learn(look_live.of_loader(loader))

    def _found(self, finding: Any) -> None:
        if finding is not None and self._trainings is not None:
            self._trainings.found.append(finding)


@contextmanager
def _quiet() -> Iterator[None]:
    """While it lasts nothing that Houndsight says is printed: the job's own process says it at the end."""
    before, handler = log.propagate, logging.NullHandler()
    log.propagate = False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(handler)


def _locked(records: Path) -> IO[bytes] | None:
    """The lock of the job's records, held; None where another process holds it."""
    records.mkdir(parents=True, exist_ok=True)
    file = (records / ".watcher").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
