"""What the loop notes of itself while it runs: losses, accuracies and where the time went; into the records."""

import time
from math import isfinite

import torch
from torch import Tensor, nn

from houndsight.data.loader import Batch
from houndsight.errors import NonFiniteLossError
from houndsight.records.writer import RecordWriter
from houndsight.training.checkpoint import State
from houndsight.training.optim import skip_steps_where
from houndsight.training.watched import Watched

SETTLE_STEPS = 64
SETTLE_SECONDS = 1.0
SETTLE_NUMBERS = {False: 200_000, True: 16_000_000}  # logits that may wait: 0.8 MB on a CPU, 64 MB on a GPU
SPAN_SECONDS = 0.02  # eight spans cost some 30 us to record: 0.15 % of this


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
    """Counts the losses and hits of the present epoch into `state` and the records, and watches over the loss.

    Steps are noted one by one and settled many at a time: that costs a GPU one wait for all of them, and a CPU half
    the time, since the network's own code drives that of the records out of the caches between any two steps.

    A step whose loss is not finite never reaches the weights. On the CPU `note` raises at once. On a GPU asking for
    the value would be a wait; there `note` sets a flag on the device by which the optimizer skips this step and all
    later ones, and `settle` raises.
    """

    def __init__(
        self,
        state: State,
        records: RecordWriter,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        watch: Watched,
        lower: str,
        deferred: bool,
    ) -> None:
        """`lower` says what to type where the learning rate was too high; `deferred` is for GPUs."""
        self._watch = watch
        self._state = state
        self._records = records
        self._network = network
        self._optimizer = optimizer
        self._lower = lower
        self._deferred = deferred
        self._steps: list[tuple[int, float, Tensor]] = []
        self._losses: list[float] = []
        self._losses_there: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._settled = time.monotonic()
        self._flag: Tensor | None = None

    def note(self, lr: float, batch: Batch, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Note one step before its weights move: loss (), logits (B, C) float32 and labels (B,) on the device.

        Raises `NonFiniteLossError` where the loss is NaN or infinite, see above.
        """
        self._steps.append((self._state.step, lr, batch.ids))
        self._watch.note(lr, batch)
        self._logits.append(logits.detach())
        self._labels.append(labels)
        if self._deferred:
            loss = loss.detach()
            self._losses_there.append(loss)
            bad = (~torch.isfinite(loss)).float()
            self._flag = bad if self._flag is None else torch.maximum(self._flag, bad)
            skip_steps_where(self._optimizer, self._flag)
            return
        value = loss.item()
        self._losses.append(value)
        if not isfinite(value):
            self.settle()

    def due(self) -> bool:
        """Whether enough steps wait to be settled, or long enough."""
        waiting = len(self._steps)
        return waiting > 0 and (
            waiting >= SETTLE_STEPS
            or waiting * self._logits[0].numel() >= SETTLE_NUMBERS[self._deferred]
            or time.monotonic() - self._settled >= SETTLE_SECONDS
        )

    def settle(self) -> None:
        """Count every step that waits; raises `NonFiniteLossError` for the first that was refused."""
        self._settled = time.monotonic()
        if not self._steps:
            return
        state = self._state
        if self._deferred:
            self._losses = torch.stack(self._losses_there).tolist()
        for place, ((step, lr, ids), loss) in enumerate(zip(self._steps, self._losses, strict=True)):
            self._records.scalars(step, {"loss": loss, "lr": lr})
            if not isfinite(loss):
                error = refusal(step, lr, ids, loss, self._logits[place], self._network, self._lower)
                self._watch.refused(step, error, loss)
                raise error
            state.loss += loss * ids.shape[0]
        logits, labels = torch.cat(self._logits), torch.cat(self._labels)
        # On the CPU numpy finds the highest of 70 logits 20 times faster than torch, of 1000 8 times.
        guesses = torch.from_numpy(logits.numpy().argmax(axis=1)) if logits.is_cpu else logits.argmax(dim=1)
        state.right += int((guesses == labels).sum())
        state.seen += labels.shape[0]
        self._watch.settled(self._steps[-1][0], [ids for _, _, ids in self._steps], logits, labels, guesses)
        for waiting in (self._steps, self._losses, self._losses_there, self._logits, self._labels):
            waiting.clear()


def refusal(
    step: int, lr: float, ids: Tensor, loss: float, logits: Tensor, network: nn.Module, lower: str
) -> NonFiniteLossError:
    """The error for a step whose loss is not finite: which step and images, and the likely cause with its repair."""
    ids = ids.cpu()
    broken = ids[~torch.isfinite(logits).all(dim=1).cpu()]
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
        f"The loss of step {step} (from 0) is {loss}, on {_listed(ids)} of the training split, at the learning "
        f"rate {lr:.3g}. {cause}",
        repair,
    )


def _listed(ids: Tensor) -> str:
    shown = ", ".join(str(each) for each in ids[:8].tolist())
    more = f" and {len(ids) - 8} more" if len(ids) > 8 else ""
    return f"image {shown}" if len(ids) == 1 else f"images {shown}{more}"
