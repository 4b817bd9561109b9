"""The training loop: batches and a spec go in, the network comes out trained; one function in the order of events."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from houndsight import metrics
from houndsight.backends.base import Stopped
from houndsight.data.loader import Batch, Batches
from houndsight.errors import DataError, JobError
from houndsight.records.writer import RecordWriter
from houndsight.spec import ClassifierSpec
from houndsight.training.average import Average
from houndsight.training.checkpoint import Keeper
from houndsight.training.device import choose_device, choose_precision, precision, settled
from houndsight.training.evaluate import outputs
from houndsight.training.observe import Clock, Tally
from houndsight.training.optim import build_loss, build_optimizer, learning_rate, peak, set_learning_rate
from houndsight.training.watched import Watched
from houndsight.watch.debugger import Debugger
from houndsight.workspace import Progress

log = logging.getLogger("houndsight")

EPOCHS = 10  # where neither epochs nor steps are given


@dataclass(frozen=True)
class Fitted:
    """How a training went."""

    steps: int
    """Optimizer steps done, earlier processes included."""
    epochs: int
    """Epochs done; one that the number of steps cut short counts."""
    best_epoch: int
    """Epoch whose weights the network now holds, from 1; 0 where none was reached."""
    stopped: bool
    """Whether `stop` ended it before its time; the network then holds the weights of that moment."""
    seconds: float
    """Time spent, earlier processes included."""


def fit(  # noqa: PLR0915 - the whole order of events in one place
    network: nn.Module,
    batches: Batches,
    spec: ClassifierSpec,
    *,
    checkpoints: Path,
    records: RecordWriter,
    stop: Callable[[], bool],
    progress: Progress,
    pause: int | None = None,
    debugger: Debugger | None = None,
) -> Fitted:
    """Train what is not frozen in `network`; it ends on the chosen device with the weights of the best epoch.

    Goes on by itself from the newest whole checkpoint in `checkpoints`, bit for bit on the same machine with one
    thread. `stop` is asked after every step: a checkpoint is written and `Fitted.stopped` is true, as it is after
    `pause` epochs, once. Records `loss` and
    `lr` of each step, `epoch_loss`, `accuracy` of each epoch (mode train) and `loss`, `accuracy` (mode valid), and
    spans that sum to the wall time. The validation loss is the plain cross-entropy whatever the training loss is.

    Raises `NonFiniteLossError` before the step that a loss which is NaN or infinite would have spoilt,
    `DiskFullError` where a checkpoint finds no room, `SpecError` where device or freeze cannot be honoured.
    """
    total = total_steps(spec, batches.steps_per_epoch)
    device = choose_device(spec.device)
    dtype = choose_precision(spec.precision, device)
    with settled(spec, device), Watched(debugger, records) as watch:
        clock = Clock(records)
        network.to(device).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(network, spec)
        arithmetic = precision(device, dtype)
        trained = [each for group in optimizer.param_groups for each in group["params"]]
        loss_of = build_loss(network, batches, spec, device)
        plan = {"steps_per_epoch": batches.steps_per_epoch, "batch_size": spec.batch_size, "total": total}
        average = Average(network, spec.ema)
        keeper = Keeper(checkpoints, spec.checkpoint_seconds, network, optimizer, device, plan, average)
        state = keeper.state
        watch.attach(network, optimizer, batches, spec, plan, state.step)
        deferred = device.type == "cuda"
        tally = Tally(state, records, network, optimizer, watch=watch, lower=lower_rate(spec, dtype), deferred=deferred)
        clock.lap("fit")
        stopped = False
        if state.step == 0 and spec.head_start == "probe":
            stopped = not judge_start(keeper, validate(network, batches, arithmetic, stop), spec, records)
            clock.lap("evaluate")
        while not (state.finished or stopped):
            network.train()
            for batch in islice(batches.train(state.epoch, state.batch), total - state.step):
                clock.lap("data")
                images, labels = on_device(batch, device)
                clock.lap("copy")
                with arithmetic:
                    logits = network(images).float()
                loss = loss_of(logits, labels)
                lr = learning_rate(spec, state.step, total)
                tally.note(lr, batch, loss, logits, labels)  # a loss that is not finite goes no further
                clock.lap("forward")
                loss.backward()  # type: ignore[no-untyped-call]
                clock.lap("backward")
                set_learning_rate(optimizer, lr)
                optimizer.step()
                for each in trained:  # zero_grad takes 10 us, most of it for torch's profiler
                    each.grad = None
                clock.lap("optimizer")

                state.step += 1
                average.update(state.step)
                state.batch += 1
                progress("train", state.step, total)
                stopped = stop()
                write = stopped or keeper.due()
                if write or tally.due():
                    tally.settle()
                clock.lap("fit")
                if write:
                    keeper.save()
                    clock.lap("checkpoint")
                clock.write(state.step - 1)
                if stopped:
                    break
            else:
                tally.settle()
                clock.lap("fit")
                with average.swapped():
                    verdict = validate(network, batches, arithmetic, stop, watch, state.step - 1)
                    clock.lap("evaluate")
                    stopped = verdict is None
                    if verdict is not None:
                        close_epoch(keeper, verdict, spec, records)
                        stopped = state.epoch == pause and not state.finished
                if stopped or state.finished or keeper.due():
                    keeper.save()
                    clock.lap("checkpoint")
                clock.write(state.step - 1, at_once=True)
        if not stopped:
            keeper.load_best()
        network.to(memory_format=torch.contiguous_format)
        clock.lap("fit")
        clock.write(max(0, state.step - 1), at_once=True)
        return Fitted(state.step, state.epoch, state.best_epoch, stopped, keeper.seconds())


def total_steps(spec: ClassifierSpec, steps_per_epoch: int) -> int:
    """How many optimizer steps the spec asks for; raises `DataError` where there is nothing to train on."""
    if steps_per_epoch < 1:
        raise DataError("There is no batch to train on.", "Give more images, or a smaller --batch-size.")
    return spec.steps if spec.steps is not None else (spec.epochs or EPOCHS) * steps_per_epoch


def on_device(batch: Batch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels where the network is; where they are there already nothing is asked of torch (1 us each)."""
    if device.type == "cpu":
        return batch.images, batch.labels
    return batch.images.to(device, non_blocking=True), batch.labels.to(device, non_blocking=True)


def lower_rate(spec: ClassifierSpec, dtype: torch.dtype) -> str:
    """What to type where a loss became infinite and the images are sound."""
    exact = " and --precision float32" if dtype != torch.float32 else ""
    return f"Start a new job with a tenth of the learning rate, --lr {peak(spec) / 10:.3g}{exact}."


@dataclass(frozen=True)
class Verdict:
    """What validation says about the weights of one moment."""

    loss: float
    """Mean plain cross-entropy in nats."""
    accuracy: float
    """Share of the images that are recognised."""

    def value(self, monitor: str) -> float:
        """The monitored value."""
        return self.loss if monitor == "loss" else self.accuracy

    def better_than(self, best: float | None, monitor: str) -> bool:
        """Whether the monitored value improves on `best`; an equal one does not."""
        if best is None:
            return True
        return self.loss < best if monitor == "loss" else self.accuracy > best


def validate(
    network: nn.Module,
    batches: Batches,
    arithmetic: AbstractContextManager[object],
    stop: Callable[[], bool],
    watch: Watched | None = None,
    step: int = 0,
) -> Verdict | None:
    """Loss and accuracy on the validation split; None where `stop` cut it short. `watch` sees more at that step."""
    if watch is not None:
        watch.validating()
    try:
        logits, labels = outputs(network, batches, "valid", precision=arithmetic, stop=stop)
    except Stopped:
        return None
    except JobError as error:
        if watch is not None:
            watch.refused(step, error)
        raise
    if watch is not None:
        watch.validated(network, arithmetic, logits, labels, step)
    own = np.take_along_axis(metrics.log_softmax(logits), labels[:, None], axis=1)
    return Verdict(loss=-float(own.mean()), accuracy=float(metrics.hits(logits, labels).mean()))


def judge_start(keeper: Keeper, verdict: Verdict | None, spec: ClassifierSpec, records: RecordWriter) -> bool:
    """Keep the fitted head as the best so far: fine-tuning has to beat it. False where `stop` cut this short."""
    if verdict is None:
        return False
    keeper.keep_best(verdict.value(spec.monitor))
    records.scalar("loss", verdict.loss, step=0, mode="valid")
    records.scalar("accuracy", verdict.accuracy, step=0, mode="valid")
    log.info("Start: validation loss %.4f, validation accuracy %.2f %%.", verdict.loss, 100 * verdict.accuracy)
    return True


def close_epoch(keeper: Keeper, verdict: Verdict, spec: ClassifierSpec, records: RecordWriter) -> None:
    """Record the epoch, keep its weights where they are the best so far, and see whether it was the last one."""
    state, step = keeper.state, keeper.state.step - 1
    records.scalar("epoch_loss", state.loss / state.seen, step=step)
    records.scalar("accuracy", state.right / state.seen, step=step)
    records.scalar("loss", verdict.loss, step=step, mode="valid")
    records.scalar("accuracy", verdict.accuracy, step=step, mode="valid")
    state.epoch += 1
    better = verdict.better_than(state.best_value, spec.monitor)
    if better:
        keeper.keep_best(verdict.value(spec.monitor))
    before = f"epoch {state.best_epoch}" if state.best_epoch else "the start"
    waited = state.epoch - state.best_epoch
    patient = spec.early_stopping is None or waited < spec.early_stopping
    state.finished = state.step >= state.plan["total"] or not patient
    log.info(
        "Epoch %d: training loss %.4f, validation loss %.4f, validation accuracy %.2f %%%s%s.",
        state.epoch,
        state.loss / state.seen,
        verdict.loss,
        100 * verdict.accuracy,
        ", the best so far" if better else f", no better than {before}",
        "" if patient else f"; stopping early after {waited} such epochs",
    )
    state.batch = state.seen = state.right = 0
    state.loss = 0.0
