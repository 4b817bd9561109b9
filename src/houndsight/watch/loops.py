"""The debugger around anybody's own training loop: it finds out by itself what the built-in loop tells it.

Losses are heard where torch computes them, modes follow from whether anything could learn, steps from the optimizers.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from math import isfinite
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from houndsight.records.writer import RecordWriter
from houndsight.spec import Finding
from houndsight.watch import losses
from houndsight.watch.debugger import Debugger
from houndsight.watch.outlet import Saved, confused
from houndsight.watch.working import Working

LATE_STEPS = 64  # losses that wait on a GPU: asking for each would be a wait


class LoopDebugger:
    """Watches the loop inside its `with` block."""

    def __init__(
        self,
        debugger: Debugger,
        models: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        records: RecordWriter | None,
        *,
        scaler: torch.amp.GradScaler | None = None,
        step: int = 0,
    ) -> None:
        """`records` takes the scalars; of further workers it is None. The first step is number `step`."""
        self._step = step
        self.debugger = debugger
        self._models, self._optimizers, self._records, self._scaler = models, optimizers, records, scaler
        self._stack = ExitStack()
        self._losses: list[Tensor] = []
        self._late: list[tuple[int, float, Tensor]] = []
        self._said: float | Tensor | None = None
        self._known: dict[str, Any] = {}
        self._evaluated, self._classes = 0, 0
        self._evaluated_loss = torch.zeros((), dtype=torch.float64)
        self._pairs: list[Tensor] = []
        self.findings: list[Finding] = []
        """What every rule found, or how it stands; whole when the block has ended."""

    def __enter__(self) -> Self:
        """Begin to watch."""
        if self._records is not None:
            self._records.listener = self.debugger.outlet.hear
        self.debugger.on_close.append(self._close_step)
        self.debugger.attach(self._models, self._optimizers, step=self._step, fresh=True)
        self._stack.enter_context(losses.heard(self._hear))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Let go of models and optimizers, and write what is left, also where the loop ended by an error."""
        self._stack.close()
        self.debugger.detach()
        self._write_late()
        self._write_evaluation()
        self.findings = self.debugger.close()
        if self._records is not None:
            self._records.listener = None
        self._losses.clear()

    def forget(self) -> None:
        """Hear no more losses, and write nothing: this is a process that was forked, or all is lost."""
        self._stack.close()

    # ------------------------------------------------------------------------------------- what a loop may say

    def mode(self, mode: str) -> None:
        """Say what follows: `train`, `eval`, `predict` or `global`."""
        self.debugger.mode(mode)

    def loss(self, value: float | Tensor) -> None:
        """Say what the loss of the present step is, where it is not one of torch's functions."""
        self._said = value.detach() if isinstance(value, Tensor) else value

    def scalar(self, name: str, value: float) -> None:
        """Record a number of the loop's own at the present step."""
        if self._records is not None:
            self._records.scalar(name, value, step=self.debugger.steps["train"])

    @property
    def step(self) -> int:
        """The present training step, from 0."""
        return self.debugger.steps["train"]

    # ------------------------------------------------------------------------------------- what is heard

    @property
    def silent(self) -> bool:
        """Whether no loss has been heard or said in the present step."""
        return self._said is None and not self._losses

    def follow(self, models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Watch these from now on: the training goes on with other models or optimizers."""
        self.debugger.detach()
        self._models, self._optimizers = models, optimizers
        self.debugger.attach(models, optimizers, step=self.debugger.steps["train"], fresh=False)

    def _hear(self, name: str, loss: Tensor, given: Tensor, target: Tensor, named: dict[str, Any]) -> None:
        with Working(self.debugger):
            self._take(name, loss, given, target, named)

    def _take(self, name: str, loss: Tensor, given: Tensor, target: Tensor, named: dict[str, Any]) -> None:
        debugger = self.debugger
        if debugger.mode_now() != "train":
            self._hear_evaluation(name, loss.detach(), given.detach(), target, named.get("reduction") == "sum")
            return
        mean = loss.detach()
        self._losses.append(mean.mean() if mean.ndim else mean)
        if not self._known:
            self._learn(name, given, target, named)
        if debugger.level:
            debugger.activations.made(given, "logits")
            if name == "cross_entropy" and _labelled(given, target):
                kept = (target >= 0) & (target < given.shape[1])  # others are left out of the loss: ignore_index
                labels = target[kept]
                if len(labels):
                    with torch.no_grad():
                        logits = given.detach()[kept]
                        plain = torch.logsumexp(logits, 1) - logits.gather(1, labels[:, None])[:, 0]
                        debugger.add_scalar("plain_loss", float(plain.mean()))
                    debugger.add_scalar("distinct_labels", float(torch.bincount(labels).count_nonzero()))
                    debugger.add_scalar("batch", float(len(labels)))

    def _learn(self, name: str, given: Tensor, target: Tensor, named: dict[str, Any]) -> None:
        """What the first loss tells of the whole training."""
        self._known = {"loss": name, "reduction": named.get("reduction", "mean")}
        if named.get("label_smoothing"):
            self._known["label_smoothing"] = named["label_smoothing"]
        if _labelled(given, target):
            self._known |= {"num_classes": given.shape[1], "batch_size": given.shape[0]}
            self.debugger.batch_size = given.shape[0]
        self.debugger.outlet.late = True
        self.debugger.learn(self._known)

    def _close_step(self, step: int) -> None:
        said, self._said = self._said, None
        heard, self._losses = self._losses, []
        lr = float(self._optimizers[0].param_groups[0]["lr"]) if self._optimizers else 0.0
        if self._scaler is not None and self.debugger.level:
            self.debugger.add_scalar("loss_scale", float(self._scaler.get_scale()))
        if said is None and heard:
            said = heard[0] if len(heard) == 1 else torch.stack([each.float() for each in heard]).mean()
        self.debugger.note(lr, None, {})
        if isinstance(said, Tensor) and said.is_cuda:
            self._late.append((step, lr, said))
            if len(self._late) >= LATE_STEPS:
                self._write_late()
        elif self._records is not None:
            values = {"lr": lr} if said is None else {"loss": float(said), "lr": lr}
            self._records.scalars(step, values)
            if said is not None and not isfinite(values["loss"]):
                self.debugger.outlet.wake()
        self._write_evaluation()

    def _write_late(self) -> None:
        late, self._late = self._late, []
        if late and self._records is not None:
            values = torch.stack([loss.float() for _, _, loss in late]).tolist()
            for (step, lr, _), value in zip(late, values, strict=True):
                self._records.scalars(step, {"loss": value, "lr": lr})

    # ------------------------------------------------------------------------------------- evaluation

    def _hear_evaluation(self, name: str, loss: Tensor, given: Tensor, target: Tensor, summed: bool) -> None:
        if self.debugger.mode_now() != "valid" or loss.ndim:
            return
        count = len(target) if target.ndim else 1
        self._evaluated += count
        self._evaluated_loss = self._evaluated_loss.to(loss.device) + loss.double() * (1 if summed else count)
        if name in {"cross_entropy", "nll_loss"} and _labelled(given, target):
            kept = (target >= 0) & (target < given.shape[1])
            self._pairs.append(torch.stack([target, given.argmax(1)])[:, kept])
            self._classes = max(self._classes, given.shape[1])

    def _write_evaluation(self) -> None:
        """The evaluation that lies behind: its mean loss, and how many it knew."""
        if not self._evaluated or self._records is None:
            return
        step = max(0, self.debugger.steps["train"] - 1)
        values = {"loss": float(self._evaluated_loss) / self._evaluated}
        counts: NDArray[np.int64] | None = None
        if self._pairs:
            labels, guesses = torch.cat(self._pairs, dim=1).cpu().numpy()
            values["accuracy"] = float((labels == guesses).mean())
            counts = confused(labels, guesses, self._classes)
        self._records.scalars(step, values, "valid")
        self.debugger.outlet.put(Saved(step, "valid", confusion=counts))
        self._clear_evaluation()

    def _clear_evaluation(self) -> None:
        self._evaluated, self._classes = 0, 0
        self._evaluated_loss = torch.zeros((), dtype=torch.float64)
        self._pairs = []


def _labelled(given: Tensor, target: Tensor) -> bool:
    """Whether these are outputs (B, C) and classes (B,)."""
    return given.ndim == 2 and target.ndim == 1 and not target.is_floating_point() and len(given) == len(target)
