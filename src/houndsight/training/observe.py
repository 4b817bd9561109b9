"""What the loop notes of itself while it runs: losses, accuracies and where the time went; into the records."""

import time
from math import isfinite

import torch
from torch import Tensor, nn

from houndsight.errors import NonFiniteLossError
from houndsight.records.writer import RecordWriter
from houndsight.training.checkpoint import State
from houndsight.training.optim import skip_steps_where

SETTLE_STEPS = 64
SETTLE_SECONDS = 1.0
SETTLE_NUMBERS = 100_000  # so many logits stay in the cache of a CPU core
SETTLE_NUMBERS_GPU = 16_000_000  # 64 MB there, where every settlement is a wait
SPAN_SECONDS = 0.01  # five spans cost some 15 us to record: 0.15 % of this


class Clock:
    """Gives every moment since it was made to one named span, so that the spans sum to the wall time.

    Steps shorter than `SPAN_SECONDS` share their spans: what several of them spent on a name is recorded as one
    stretch, and these stretches follow each other as they do within a step.
    """

    def __init__(self, records: RecordWriter) -> None:
        self._records = records
        self._spent: dict[str, float] = {}
        self._step: int | None = None
        self._mark = self._began = time.perf_counter()
        self._offset = time.time() - self._mark

    def lap(self, name: str) -> None:
        """The time since the last lap went into `name`."""
        now = time.perf_counter()
        self._spent[name] = self._spent.get(name, 0.0) + now - self._mark
        self._mark = now

    def write(self, step: int, *, at_once: bool = False) -> None:
        """Record what was spent up to and in `step` (from 0), unless that is too little to be worth it yet."""
        if self._step is None:
            self._step = step
        if self._mark - self._began < SPAN_SECONDS and not at_once:
            return
        start = self._began + self._offset
        for name, seconds in self._spent.items():
            self._records.add_span(name, start, seconds, self._step)
            start += seconds
        self._spent.clear()
        self._step, self._began = None, self._mark


class Tally:
    """Gathers losses and hits of the present epoch and settles them together, into `state` and the records.

    One settlement for many steps costs a GPU one wait instead of one a step, and a CPU a tenth of counting each batch.
    With it goes the watch over the loss: a step whose loss is not finite never reaches the weights. On the CPU `note`
    raises at once. On a GPU asking would make every step wait; there the flag set by `note` makes the optimizer skip
    this step and all later ones on the device, and `settle` raises, at most `SETTLE_STEPS` steps later.
    """

    def __init__(
        self,
        state: State,
        records: RecordWriter,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        lower: str,
        deferred: bool,
    ) -> None:
        """`lower` says what to type where the learning rate was too high."""
        self._state = state
        self._network = network
        self._lower = lower
        self._records = records
        self._optimizer = optimizer
        self._deferred = deferred
        self._steps: list[tuple[int, float, Tensor]] = []
        self._losses: list[Tensor | float] = []
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._numbers = 0
        self._settled = time.monotonic()
        self._flag: Tensor | None = None

    def note(self, lr: float, ids: Tensor, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Note one step before its weights move: loss (), logits (B, C) float32 and labels (B,) on the device.

        Raises `NonFiniteLossError` where the loss is NaN or infinite, see above.
        """
        loss = loss.detach()
        self._steps.append((self._state.step, lr, ids))
        self._logits.append(logits.detach())
        self._labels.append(labels)
        self._numbers += logits.numel()
        if not self._deferred:
            value = loss.item()
            self._losses.append(value)
            if not isfinite(value):
                self.settle()
            return
        bad = (~torch.isfinite(loss)).float()
        self._flag = bad if self._flag is None else torch.maximum(self._flag, bad)
        skip_steps_where(self._optimizer, self._flag)
        self._losses.append(loss)

    def due(self) -> bool:
        """Whether enough steps wait to be settled, or long enough."""
        return (
            len(self._steps) >= SETTLE_STEPS
            or self._numbers >= (SETTLE_NUMBERS_GPU if self._deferred else SETTLE_NUMBERS)
            or time.monotonic() - self._settled >= SETTLE_SECONDS
        )

    def settle(self) -> None:
        """Count and record every step noted so far; raises `NonFiniteLossError` for the first to be refused."""
        self._settled = time.monotonic()
        if not self._steps:
            return
        losses = (
            torch.stack([torch.as_tensor(each) for each in self._losses]).tolist() if self._deferred else self._losses
        )
        logits, labels = torch.cat(self._logits), torch.cat(self._labels)
        # On the CPU numpy finds the highest of 70 logits 20 times faster than torch, of 1000 8 times.
        guesses = torch.from_numpy(logits.numpy().argmax(axis=1)) if logits.is_cpu else logits.argmax(dim=1)
        self._state.right += int((guesses == labels).sum())
        self._state.seen += len(labels)
        for (step, lr, ids), loss in zip(self._steps, losses, strict=True):
            self._records.scalar("loss", loss, step=step)
            self._records.scalar("lr", lr, step=step)
            if not isfinite(loss):
                raise refusal(step, lr, ids, loss, self._logits[step - self._steps[0][0]], self._network, self._lower)
            self._state.loss += loss * len(ids)
        for waiting in (self._steps, self._losses, self._logits, self._labels):
            waiting.clear()
        self._numbers = 0


def refusal(
    step: int, lr: float, ids: Tensor, loss: float, logits: Tensor, network: nn.Module, lower: str
) -> NonFiniteLossError:
    """The error for a step whose loss is not finite: which step and images, and the likely cause with its repair."""
    broken = ids.cpu()[~torch.isfinite(logits).all(dim=1).cpu()]
    if not all(bool(torch.isfinite(each).all()) for each in network.parameters()):
        cause = "The weights are not finite either: a gradient overflowed in an earlier step."
        repair = lower
    elif 0 < len(broken) < len(ids):
        cause = f"Only the outputs for {_listed(broken)} are not finite."
        repair = "Look at these images; `houndsight check` finds broken ones."
    else:
        cause = "The weights are those before this step and finite."
        repair = f"{lower} If it stays, look at the images of this step."
    return NonFiniteLossError(
        f"The loss of step {step} (from 0) is {loss}, on {_listed(ids.cpu())} of the training split, at the learning "
        f"rate {lr:.3g}. {cause}",
        repair,
    )


def _listed(ids: Tensor) -> str:
    shown = ", ".join(str(each) for each in ids[:8].tolist())
    more = f" and {len(ids) - 8} more" if len(ids) > 8 else ""
    return f"image {shown}" if len(ids) == 1 else f"images {shown}{more}"
