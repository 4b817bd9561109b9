"""Takes the tensors that a hook of `smdebug` saves out of a running training, under smdebug's names, and writes them.

A step is one forward pass of the registered model, as in smdebug. Unlike there, inputs are copied before a module runs
(an activation may work in place), and gradients where the optimizer gets them: unscaled, accumulated and clipped; the
steps that were accumulated share them. Without `set_mode` the model's own mode says what a step belongs to.
"""

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import optimizer as optimizers
from torch.utils.hooks import RemovableHandle

from houndsight.scripts.smdebug_config import Collection
from houndsight.scripts.smdebug_errors import ModeKeys
from houndsight.scripts.smdebug_moment import Moment
from houndsight.scripts.smdebug_store import Array, Writer
from houndsight.watch import losses, names
from houndsight.watch.modules import Hook

log = logging.getLogger("houndsight")

LOSSES = {
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "mse_loss": "MSELoss",
    "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss",
    "huber_loss": "HuberLoss",
    "kl_div": "KLDivLoss",
    "multi_margin_loss": "MultiMarginLoss",
    "soft_margin_loss": "SoftMarginLoss",
}
"""Function of torch.nn.functional -> the module that stands for it; its name is that of the tensors."""


def _safely(method: Callable[..., None]) -> Callable[..., None]:
    """A mistake of ours, or a full disk, never ends the training; in a child process nothing is done at all."""

    @wraps(method)
    def call(self: "Saver", *given: Any) -> None:
        if (
            self.closed
            or torch.compiler.is_compiling()  # first: the compiler cannot look into what follows
            or os.getpid() != self.pid
            or torch._C._get_tracing_state() is not None
        ):
            return
        self.learning = torch.is_grad_enabled()
        try:
            with torch.no_grad():
                method(self, *given)
        except Exception as error:  # noqa: BLE001 - said, and nothing more is saved
            log.warning("Tensors are no longer saved for smdebug: %s: %s", type(error).__name__, error)
            self.close()

    return call


class Saver:
    """Saves what `select` says for a step, until `close`."""

    def __init__(
        self, writer: Writer | None, select: Callable[[ModeKeys, int], list[Collection]], *, most: int | None = None
    ) -> None:
        """Without a writer nothing is saved; at most `most` bytes of a step are taken whole."""
        self.pid, self.closed = os.getpid(), writer is None
        self.mode: ModeKeys | None = None
        """What was said by `set_mode`."""
        self.step = -1
        self.mode_steps: dict[ModeKeys, int] = {ModeKeys.GLOBAL: -1}
        self.root: nn.Module | None = None
        """The model whose forward passes are the steps."""
        self.root_known = False
        """Whether the script itself named it."""
        self.now: Moment | None = None
        """The step that is being saved."""
        self.learning = True
        """Whether the training itself could learn where it called us."""
        self._writer, self._select, self.most = writer, select, most
        self._modules: list[tuple[str, nn.Module]] = []
        self._parameters: dict[str, nn.Parameter] = {}
        self._titles: dict[int, str] = {}
        self._losses: list[nn.Module] = []
        self._inside = 0
        self._calls: dict[str, int] = {}
        self._armed: list[RemovableHandle] = []
        self._handles: dict[int, list[RemovableHandle]] = {}
        self._open: list[Moment] = []
        self._begun = self._stepped = self._stays_in_eval = False
        self._stack = ExitStack()

    # ------------------------------------------------------------------------------------- what is watched

    def watch(self, module: nn.Module, *, known: bool = True) -> None:
        """Save tensors of this model; the first one that the script itself named (`known`) counts the steps.

        Of a model that it has not named, whoever sees its forward passes tells of them, and it carries no hooks.
        """
        if self.closed or id(module) in self._handles:
            self.root_known = self.root_known or (known and module is self.root)
            return
        if self.root is not None and not self.root_known:
            self.forget()
        elif self.root is not None and not known:
            return
        self._begin()
        name = type(names.unwrapped(module) if names.is_compiled(module) else module).__name__
        if self.root is None:
            self.root, self.root_known = module, known
        else:
            name = next(
                each for at in count(1) if (each := name if at == 1 else f"{name}#{at}") not in self._titles.values()
            )
        self._titles[id(module)] = name
        self._handles[id(module)] = []
        if known:
            before = module.register_forward_pre_hook(Hook(self.before_forward))
            self._handles[id(module)] = [before, module.register_forward_hook(Hook(self.after_forward))]
        compiled = names.is_compiled(module)
        paths = {names.bare(path) if compiled else path: each for path, each in module.named_parameters()}
        self._parameters |= {f"{name}_{path}": each for path, each in paths.items()}
        first = "" if module is self.root else f"{name}."
        if not names.is_compiled(module):
            self._modules += [(first + path if path else name, each) for path, each in module.named_modules()]

    def name_of(self, module: nn.Module) -> str | None:
        """What the tensors of a module begin with; None where it is not watched."""
        return next((name for name, each in self._modules if each is module), None)

    @property
    def told(self) -> bool:
        """Whether the model carries no hooks, and whoever sees its forward passes has to tell of them."""
        return self.root is not None and not self._handles[id(self.root)]

    def forget(self) -> None:
        """Let go of the models."""
        for handles in self._handles.values():
            for each in handles:
                each.remove()
        self._disarm()
        self._handles.clear()
        self._modules.clear()
        self._parameters.clear()
        self._titles.clear()
        self.root = None

    def watch_loss(self, module: nn.Module) -> None:
        """Save what this loss returns, under its own class's name."""
        if self.closed or any(each is module for each in self._losses):
            return
        self._losses.append(module)
        before = module.register_forward_pre_hook(Hook(self._before_loss))
        after = module.register_forward_hook(Hook(self._after_loss), always_call=True)
        self._stack.callback(before.remove)
        self._stack.callback(after.remove)

    def close(self) -> None:
        """Let go of everything and write what is left; more than one call is allowed."""
        if self.closed or os.getpid() != self.pid:
            return
        self.closed = True
        self._stack.close()
        self.forget()
        assert self._writer is not None
        try:
            self._flush()
            self._writer.close({mode.name: step for mode, step in self.mode_steps.items()}, self.step)
        except Exception as error:  # noqa: BLE001 - the training has ended; said is all that can be done
            log.warning("The last tensors were not saved for smdebug: %s", error)

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._stack.enter_context(losses.heard(self._hear))
        self._stack.callback(optimizers.register_optimizer_step_pre_hook(self._before_step).remove)
        self._stack.callback(optimizers.register_optimizer_step_post_hook(self._after_step).remove)

    def carry_on(self, known: dict[str, int]) -> None:
        """Go on with the numbers of an earlier run."""
        self.step = known.get("", -1)
        self.mode_steps |= {ModeKeys[mode]: step for mode, step in known.items() if mode}

    # ------------------------------------------------------------------------------------- steps

    def mode_now(self) -> ModeKeys:
        """What was said, else whether the model is in training mode, or learns all the same."""
        if self.mode is not None:
            return self.mode
        trains = self.root is None or self.root.training or (self._stays_in_eval and self.learning)
        return ModeKeys.TRAIN if trains else ModeKeys.EVAL

    @_safely
    def before_forward(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        """A forward pass begins."""
        if id(module) not in self._handles or torch._C._current_graph_task_id() != -1:
            return  # a replica on another GPU, or a pass that is computed again
        if module is not self.root:
            self._disarm()
            if self.now is not None:
                self._arm(self.now.collections)
                self._write(self._titles[id(module)], "input", given)
            return
        self._flush()
        self._disarm()
        if self._stepped or self._cleared():
            self._open.clear()
        self._stepped = False
        mode = self.mode_now()
        self.step += 1
        self.mode_steps[mode] = self.mode_steps.get(mode, -1) + 1
        self.mode_steps[ModeKeys.GLOBAL] = self.step
        self._calls.clear()
        found = self._select(mode, self.mode_steps[mode])
        if not found:
            self.now = None
            return
        self.now = Moment(self.step, mode, self.mode_steps[mode], found)
        learns = mode in (ModeKeys.TRAIN, ModeKeys.GLOBAL)
        if learns and any(each.holds(f"gradient/{name}") for name in self._parameters for each in found):
            self._open.append(self.now)
        for name, each in self._parameters.items():
            self.add(name, each.detach())
        self._arm(found)
        self._write(self._titles[id(module)], "input", given)

    @_safely
    def after_forward(self, module: nn.Module, _given: Any, made: Any) -> None:
        """It has ended and made this."""
        if id(module) in self._handles and self.now is not None and torch._C._current_graph_task_id() == -1:
            self._write(self._titles[id(module)], "output", made)
            self._disarm()

    def forward_over(self) -> None:
        """The pass is over, also where it failed: nothing of ours is left in the model."""
        self._disarm()

    def _cleared(self) -> bool:
        """Whether the gradients were taken away since: what was accumulated is not to be stepped with."""
        first = next((each for each in self._parameters.values() if each.requires_grad), None)
        return first is None or first.grad is None

    def _arm(self, found: list[Collection]) -> None:
        """Listen in this forward pass to the modules of which a tensor may belong to one of the collections."""
        for name, module in self._modules:
            if id(module) in self._handles:
                continue
            sides = {side: [f"{name}_{side}_{at}" for at in (0, 1)] for side in ("input", "output")}
            wanted = {side: any(each.holds(tensor) for each in found for tensor in of) for side, of in sides.items()}
            if wanted["input"]:
                self._armed.append(module.register_forward_pre_hook(Hook(self._before_module(name))))
            if wanted["output"]:
                self._armed.append(module.register_forward_hook(Hook(self._after_module(name))))

    def _disarm(self) -> None:
        for each in self._armed:
            each.remove()
        self._armed.clear()

    def _before_module(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _module, given: self._module(name, "input", given)

    def _after_module(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        return lambda _module, _given, made: self._module(name, "output", made)

    @_safely
    def _module(self, name: str, side: str, given: Any) -> None:
        if torch._C._current_graph_task_id() == -1:
            self._write(name, side, given)

    # ------------------------------------------------------------------------------------- losses

    @_safely
    def _before_loss(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self._inside += 1
        self._write(type(module).__name__, "input", given)

    @_safely
    def _after_loss(self, module: nn.Module, _given: Any, made: Any) -> None:
        self._inside -= 1
        self._write(type(module).__name__, "output", made)

    @_safely
    def _hear(self, name: str, loss: Tensor, given: Tensor, target: Tensor, _named: dict[str, Any]) -> None:
        if self._inside:
            return
        self._write(LOSSES[name], "input", (given, target))
        self._write(LOSSES[name], "output", loss)

    # ------------------------------------------------------------------------------------- gradients

    @_safely
    def _before_step(self, optimizer: torch.optim.Optimizer, _args: Any, _named: Any) -> None:
        moved = {id(each) for group in optimizer.param_groups for each in group["params"]}
        own = {name: each for name, each in self._parameters.items() if id(each) in moved}
        if not own:
            return
        self._stepped = True
        self._stays_in_eval = self.root is not None and not self.root.training
        scale = vars(optimizer).get("grad_scale")  # the fused kernels unscale inside the step
        for moment in self._open:
            for name, each in own.items():
                if each.grad is not None:
                    gradient = each.grad.detach()
                    self.add(f"gradient/{name}", gradient if scale is None else gradient / scale, moment)
            if moment is not self.now:
                self._put(moment)

    @_safely
    def _after_step(self, *_: Any) -> None:
        if self._stepped:
            self._open.clear()

    # ------------------------------------------------------------------------------------- saving

    @_safely
    def save(self, name: str, value: Tensor, collection: Collection) -> None:
        """Save a tensor of the script's own at the present step, as its collection says, whatever the schedule."""
        collection.add_tensor_name(name)
        moment = self._here([collection])
        self.add(name, value, moment)
        self._put(moment)

    @_safely
    def scalar(self, name: str, value: Array) -> None:
        """Save one number at the present step, whatever the schedule."""
        moment = self._here([])
        moment.values[name] = value
        self._put(moment)

    def _here(self, collections: list[Collection]) -> Moment:
        mode = self.mode_now()
        return Moment(max(0, self.step), mode, max(0, self.mode_steps.get(mode, 0)), collections)

    @_safely
    def record(self, name: str, value: Any) -> None:
        """As the outputs of a module of that name."""
        self._write(name, "output", value)

    def add(self, name: str, tensor: Tensor, moment: Moment | None = None) -> None:
        """Take in a tensor where a collection of the step holds it."""
        moment = moment or self.now
        if moment is not None:
            moment.add(name, tensor, self.most)

    def _write(self, name: str, side: str, given: Any) -> None:
        """All tensors in what a module was given or returned, numbered through the step as smdebug does."""
        if self.now is None:
            return
        if isinstance(given, Tensor):
            key = f"{name}_{side}_"
            at = self._calls[key] = self._calls.get(key, -1) + 1
            self.add(f"{key}{at}", given)
        elif isinstance(given, tuple | list):
            for each in given:
                self._write(name, side, each)

    def _flush(self) -> None:
        if self.now is not None:
            self._put(self.now)
        self.now = None

    def _put(self, moment: Moment) -> None:
        if self._writer is not None and (moment.values or moment.reductions or moment.shapes):
            step = (moment.number, moment.mode, moment.mode_step)
            self._writer.add(step, moment.values, moment.reductions, moment.shapes)
        moment.values, moment.reductions, moment.shapes = {}, {}, {}
