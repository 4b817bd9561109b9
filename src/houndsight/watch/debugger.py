"""The debugger: watches models and optimizers while they train and hands numbers to its side thread.

A step is what lies between two steps of the same optimizer; where several optimizers step in turn, all of them belong
to it. Weights and gradients are taken in the optimizer's pre-step hook (after unscaling, accumulation and clipping),
updates behind the step, activations in forward pre-hooks. In a step that is not saved nothing is there but two hooks
of the optimizer and one of the network, which look at one number.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from houndsight.records.facts import add_facts
from houndsight.spec import Finding
from houndsight.watch import names
from houndsight.watch.activations import Activations, unwrapped
from houndsight.watch.flight import Flight
from houndsight.watch.governor import Governor
from houndsight.watch.outlet import Outlet, Rules, Saved
from houndsight.watch.parameters import Parameters
from houndsight.watch.plan import DebugSpec
from houndsight.watch.table import Block, moved, to_host
from houndsight.watch.working import Working, calling, scale_of

MODES = {"train": "train", "eval": "valid", "valid": "valid", "predict": "predict", "global": "global"}
"""What may be said for each mode; `eval` is SageMaker's word for `valid`."""


class Debugger:
    """Takes the numbers of a training into the folder of records, within its budget.

    `attach` begins, `close` ends and removes every hook. A mistake of the debugger's own never ends the training: it
    lets go of the training and `broken` says why; with `strict` it is raised.
    """

    def __init__(
        self,
        folder: Path,
        spec: DebugSpec | None = None,
        *,
        rules: Callable[[dict[str, Any]], Rules] | None = None,
        checkpoints: Path | None = None,
        facts: dict[str, Any] | None = None,
        worker: int = 0,
        strict: bool = False,
    ) -> None:
        """Write into `folder`; `rules` makes the rules from the facts of the training, once they are known.

        `facts` are what is known beforehand; `checkpoints` is where the training keeps its own, for the flight
        recorder.
        """
        self.spec = spec or DebugSpec()
        self.folder, self.strict = folder, strict
        self.governor = Governor(self.spec)
        self.flight = Flight(folder, self.spec.flight, checkpoints)
        self.outlet = Outlet(folder, worker=worker, on_finding=self._found, affords=self.governor.affords)
        self._rules = rules
        self.begun = False
        """Whether the side thread was started."""
        self.broken: Exception | None = None
        """What made the debugger let go of the training, or None."""
        self.level = 0
        """What is taken of the present training step: 0 nothing, 1 parameters, inputs and outputs, 2 everything."""
        self.steps = dict.fromkeys(dict.fromkeys(MODES.values()), 0)
        """Mode -> number of its present step."""
        self.activations = Activations(self.spec)
        """What passes through the networks."""
        self.on_close: list[Callable[[int], None]] = []
        """Called with the number of every training step that has ended."""
        self.batch_size = 0
        """Images in a batch; 0 where it is not known."""
        self.told = False
        """Whether forward passes and steps are told, so that nothing hangs on the objects outside of saved passes."""
        self._pair = -1  # the step whose gradients are to be held against those of the step before
        self._worker, self._known = worker, facts or {}
        self._mode: str | None = None
        self._models: dict[str, nn.Module] = {}
        self._parameters: dict[int, Parameters] = {}
        self._stepped: set[int] = set()
        self._handles: list[RemovableHandle] = []
        self._blocks: list[Block] = []
        self._raw: dict[str, Tensor] = {}
        self._scalars: dict[str, float] = {}
        self._alarms: list[Finding] = []
        self._evaluating = False
        self._evaluated = -1  # training step at which the last evaluation was looked at

    # ------------------------------------------------------------------------------------- beginning and end

    def attach(
        self,
        models: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        step: int = 0,
        fresh: bool | None = None,
        **facts: Any,
    ) -> None:
        """Watch them from training step `step` on, where it begins if `fresh`; `facts` are further ones."""
        fresh = step == 0 if fresh is None else fresh
        self._models = unwrapped(models)
        self.steps["train"] = step
        named = names.parameters(self._models)
        optimizers = list({id(each): each for each in optimizers}.values())
        moved_by = {
            id(parameter): id(optimizer)
            for optimizer in reversed(optimizers)
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for place, optimizer in enumerate(optimizers):
            # A parameter that no optimizer moves is looked at beside those of the first one.
            own = {
                name: each
                for name, each in named.items()
                if moved_by.get(id(each), None if place else id(optimizer)) == id(optimizer)
            }
            self._parameters[id(optimizer)] = Parameters(own, self.spec, distance=fresh)
            if not self.told:
                self._handles.append(optimizer.register_step_pre_hook(calling(self.before_step)))
                self._handles.append(optimizer.register_step_post_hook(calling(self.after_step)))
        self.activations.attach(self._models, models)
        if self.activations.open and not self.told:
            for model in self._models.values():
                self._handles.append(model.register_forward_pre_hook(calling(self.before_forward), with_kwargs=True))
                self._handles.append(model.register_forward_hook(calling(self.after_forward)))
        known = names.facts(self._models, optimizers) | {"compiled": not self.activations.open}
        if self.begun:  # the training goes on with other models or optimizers
            self._stepped.clear()
            self.learn({**known, **facts})
        else:
            self.begin({**known, "debugger": self._facts(), **facts})
        self.governor.first = step if fresh else self.governor.first
        self.level = self.governor.level(step)
        self._arm(self.level)

    def begin(self, facts: dict[str, Any]) -> None:
        """Write the facts and start the side thread; `attach` does it."""
        self.begun = True
        if self._worker:
            self.outlet.begin(None)
            return
        whole = add_facts(self.folder, **{**self._known, **facts})
        self.outlet.begin(None if self._rules is None else self._rules(whole))

    def detach(self) -> None:
        """Remove every hook; more than one call is allowed."""
        self.activations.detach()
        for each in self._handles:
            each.remove()
        self._handles.clear()
        self._parameters.clear()
        self._models.clear()
        self.flight.batch = {}

    def close(self) -> list[Finding]:
        """Remove every hook, write what is left, and return what the rules say at the end."""
        self.detach()
        found: list[Finding] = []
        with Working(self):
            found = self.outlet.close()
        self.governor.aside = self.outlet.seconds
        if self._worker == 0:
            add_facts(self.folder, debugger=self._facts())
        return found

    def _facts(self) -> dict[str, Any]:
        governor = self.governor
        return {
            "budget": self.spec.budget,
            "overhead": governor.overhead,
            "seconds": governor.own + governor.aside,
            "step_seconds": governor.step_seconds,
            "steps": governor.steps,
            "saved": governor.saved,
            "interval": self.spec.schedule.interval or governor.interval,
            "collections": {name: each.model_dump() for name, each in self.spec.collections.items()},
            "broken": None if self.broken is None else f"{type(self.broken).__name__}: {self.broken}",
        }

    def summary(self) -> str:
        """One sentence on what the debugger did and took."""
        governor = self.governor
        if self.broken is not None:
            return f"The debugger let go of the training by a mistake of its own ({self.broken})."
        return (
            f"Debugger: {governor.saved} of {governor.steps} steps saved; it took "
            f"{100 * governor.overhead:.1f} % of the CPU time of the steps ({governor.own + governor.aside:.2f} s)."
        )

    # ------------------------------------------------------------------------------------- from the loop

    def mode(self, mode: str | None) -> None:
        """Say what the coming forward passes belong to: train, eval, predict or global; None finds out by itself."""
        self._mode = None if mode is None else MODES[mode]

    def mode_now(self) -> str:
        """Which mode it is, outside of any forward pass: what was said, else evaluation where nothing can learn."""
        return self._mode or ("train" if torch.is_grad_enabled() else "valid")

    def learn(self, facts: dict[str, Any]) -> None:
        """Further facts that were found out on the way."""
        if self._worker == 0:
            add_facts(self.folder, **facts)
        self.outlet.learn(facts)

    def note(self, lr: float | None, ids: Tensor | None, batch: dict[str, Tensor]) -> None:
        """Tell the flight recorder what the present step is made of."""
        self.flight.note(self.steps["train"], lr, ids)
        self.flight.batch = batch

    def add_scalar(self, name: str, value: float) -> None:
        """A number of the present training step, for the rules."""
        self._scalars[name] = value

    def dump(self, why: list[Finding], losses: dict[int, float] | None = None) -> Path | None:
        """Write the flight recorder now."""
        text = " ".join(f"{each.message} {each.evidence}" for each in why)
        suspects = {
            name: each for parameters in self._parameters.values() for name, each in parameters.suspects(text).items()
        }
        step = next((each.step for each in why if each.step is not None), self.steps["train"])
        return self.flight.dump(step, why, suspects, losses or {})

    # ------------------------------------------------------------------------------------- hooks

    def _arm(self, level: int) -> None:
        """Listen to the modules from now on; where passes are told, only from the beginning of one to its end."""
        if not self.told:
            self.activations.arm(level)

    def before_forward(self, model: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A forward pass of a model begins."""
        mode = self._now(model)
        if mode == "train" and not self.level:
            return
        with Working(self):
            if mode != "train":
                self._begin_evaluation(mode)
                if not self._evaluating:
                    return
            elif (share := self.activations.in_training()) is not None:
                self.add_scalar("training", share)
            if self.told:
                self.activations.arm(2 if self._evaluating else self.level)
            if self.activations.inputs_of is None:
                self.activations.given(given or named)

    def after_forward(self, model: nn.Module, _given: Any, made: Any) -> None:
        """It has ended and made this."""
        if not self.level and not self._evaluating:
            return
        with Working(self):
            mode = self._now(model)
            if mode == "train":
                self.activations.made(made)
            elif self._evaluating:
                self.activations.made(made)
                self._end_evaluation(mode)

    def before_step(self, optimizer: torch.optim.Optimizer, _args: Any = None, _named: Any = None) -> None:
        """The optimizer is about to step."""
        key = id(optimizer)
        if key in self._stepped:
            self._close_step()  # an optimizer that steps again begins a new step; the others did not take part
        if not self.level and not self._alarms and self._pair < 0:
            return
        with Working(self):
            if self._alarms:
                alarms, self._alarms = self._alarms, []
                self.dump(alarms)
            if self.level:
                scale = scale_of(optimizer)
                if scale is not None:
                    self.add_scalar("loss_scale", scale)
                self._blocks += self._parameters[key].before(scale, full=self.level > 1)
                if self.spec.raw or self.spec.collections:
                    self._raw |= self._parameters[key].raw(self.spec.writes)
            if len(self._parameters) == 1 and self.batch_size:
                self._hold_against(self._parameters[key])

    def _hold_against(self, parameters: Parameters) -> None:
        """Two steps in a row, now and then: their gradients tell how noisy they are."""
        step, pair = self.steps["train"], self._pair
        self._pair = -1
        if pair == step and (found := parameters.paired()) is not None:
            host, ready = to_host(found)
            self.outlet.put(Saved(step, "train", noise=host, ready=ready, batch=self.batch_size))
        elif self.level > 1:
            parameters.remember()
            self._pair = step + 1

    def after_step(self, optimizer: torch.optim.Optimizer, _args: Any = None, _named: Any = None) -> None:
        """The optimizer has stepped."""
        if self.level:
            with Working(self):
                self._blocks += self._parameters[id(optimizer)].after(full=self.level > 1)
        if len(self._parameters) > 1:
            self._stepped.add(id(optimizer))
            if len(self._stepped) < len(self._parameters):
                return
        self._close_step()

    def forward_over(self) -> None:
        """The forward pass that was told of is over, also where it failed: nothing of ours is left in the network."""
        if not self.level and not self._evaluating:
            return
        with Working(self):
            if self._evaluating:  # it failed, or the mode was changed within it
                self._evaluating = False
                self.activations.back()
            self.activations.arm(0)

    # ------------------------------------------------------------------------------------- steps

    def _close_step(self) -> None:
        step, level = self.steps["train"], self.level
        if self.on_close:
            with Working(self):
                for each in self.on_close:
                    each(step)
        self._stepped.clear()
        self.steps["train"] = step + 1
        if not level and not self.governor.tick():
            return
        start = time.thread_time()
        if level:
            with Working(self, timed=False):
                self._blocks += self.activations.blocks() + (self.activations.running() if level > 1 else [])
                self._raw |= self.activations.raw
                self._put(step, "train")
        self._blocks, self._raw, self._scalars = [], {}, {}
        self.governor.aside = self.outlet.seconds
        now = time.thread_time()
        self.governor.own += now - start
        self.governor.close_step(now, level=level)
        self.level = self.governor.level(step + 1) if self.broken is None else 0
        if level or self.level:
            self.activations.clear()
            self._arm(self.level)
            self.governor.timed(now)

    def _put(self, step: int, mode: str) -> None:
        done = moved(self._blocks)
        scalars = dict(self._scalars) if mode == "train" else {}
        self.outlet.put(Saved(step, mode, done.names, done.table, done.ready, scalars, raw=dict(self._raw)))

    # ------------------------------------------------------------------------------------- evaluation

    def _now(self, model: nn.Module) -> str:
        """Which mode a forward pass belongs to: what was said, else evaluation where nothing could learn from it."""
        if self._mode is not None:
            return self._mode
        return "train" if model.training or torch.is_grad_enabled() else "valid"

    def _begin_evaluation(self, mode: str) -> None:
        """A forward pass outside of training: saved as its schedule says; without one the first after a step."""
        self.governor.stop_clock()
        schedule, step = self.spec.of(mode), self.steps[mode]
        if schedule.interval is None:
            fresh = self._evaluated != self.steps["train"] and self.governor.affords(self.governor.cost)
            asked = (fresh and schedule.open(step)) or step in schedule.steps
        else:
            asked = schedule.saves(step, schedule.interval)
        self._evaluated = self.steps["train"]
        self._evaluating = asked and self.broken is None
        if not self._evaluating:
            self.steps[mode] += 1
            return
        self.activations.aside()
        self.activations.arm(2)

    def _end_evaluation(self, mode: str) -> None:
        before = self._blocks, self._raw
        self._blocks, self._raw = self.activations.blocks(), self.activations.raw
        self._put(self.steps[mode], mode)
        self._blocks, self._raw = before
        self.steps[mode] += 1
        self._evaluating = False
        self.activations.back()
        self._arm(self.level)

    # ------------------------------------------------------------------------------------- the rest

    def _found(self, finding: Finding) -> None:
        if finding.severity == "error" and finding.status == "IssuesFound":
            self._alarms.append(finding)  # written out at the next step, by the thread that holds the tensors

    def broke(self, error: Exception) -> None:
        """A mistake of the debugger's own: let go of the training, and say so at its end."""
        self.broken, self.level = error, 0
        self._blocks, self._raw, self._alarms, self._evaluating = [], {}, [], False
        self.activations.arm(0)
