"""What will be done, decided once before a training starts: the recipe, the device, the steps, the minutes it takes."""

import logging
import time

import torch

from houndsight.data.loader import steps
from houndsight.errors import SpecError
from houndsight.models.network import Network
from houndsight.recipes.classifier import complete
from houndsight.spec import ClassifierSpec, Index
from houndsight.training.device import choose_device, choose_precision, precision, settled
from houndsight.training.loop import total_steps
from houndsight.workspace import Progress

log = logging.getLogger("houndsight")

AFFORDABLE_MINUTES = 30.0
"""Longest fine-tuning that is chosen without being asked for, on a machine without a GPU."""

MEASURED_STEPS = 10
WELL_SAID = (0.75, 1.33)
"""Measured over expected time that needs no correction."""


def decide(spec: ClassifierSpec, network: Network, index: Index) -> ClassifierSpec:
    """The complete spec of a training on this machine; `network` is not frozen yet.

    Raises `SpecError` where what was given contradicts the recipe, or the device is not there.
    """
    device = choose_device(spec.device)

    def affordable(tuned: ClassifierSpec) -> bool:
        if device.type != "cpu":
            return True
        minutes = total_steps(tuned, 1) * seconds_a_step(network, tuned, device) / 60
        if minutes > AFFORDABLE_MINUTES:
            log.info(
                "Fine-tuning would take about %.0f minutes here; a linear head is fitted instead (--recipe lp-ft "
                "fine-tunes all the same).", minutes,
            )  # fmt: skip
        return minutes <= AFFORDABLE_MINUTES

    return complete(spec, len(index.splits["train"]), affordable)


def seconds_a_step(network: Network, spec: ClassifierSpec, device: torch.device) -> float:
    """How long one step of the whole network takes: the second of two, on random images; the weights stay as they are.

    The optimizer's own share is left out (under 3 % for these networks).
    """
    side = network.preprocess.image_size
    network.to(device).to(memory_format=torch.channels_last)
    network.eval()
    seconds = 0.0
    with settled(spec, device):  # as many threads as the training will have
        images_NHWC = torch.randint(0, 256, (spec.batch_size, side, side, 3), dtype=torch.uint8)
        images = images_NHWC.permute(0, 3, 1, 2).to(device)
        for _ in range(2):
            began = time.perf_counter()
            with precision(device, choose_precision(spec.precision, device)):
                network(images).float().sum().backward()
            seconds = time.perf_counter() - began
            network.zero_grad(set_to_none=True)
    network.train()
    return seconds


def small_epochs(spec: ClassifierSpec, network: Network, index: Index) -> tuple[int, int] | None:
    """(side, epochs) of a first half on smaller inputs, or None where the spec does not ask for it.

    Raises `SpecError` where the backbone takes no such size.
    """
    if spec.first_size is None:
        return None
    side = spec.first_size
    if side >= network.preprocess.image_size:
        raise SpecError(f"first_size {side} is not smaller than the input of {network.preprocess.image_size} pixels.")
    mode = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros((1, 3, side, side), dtype=torch.uint8, device=next(network.parameters()).device))
    except (AssertionError, RuntimeError) as error:
        raise SpecError(f"{network.name} takes no input of {side} pixels (first_size): {error}.") from error
    finally:
        network.train(mode)
    steps_per_epoch = steps(len(index.splits["train"]), spec.batch_size)
    epochs = -(-total_steps(spec, steps_per_epoch) // steps_per_epoch)
    if epochs < 2:
        raise SpecError("first_size: a training of one epoch has no first half.", "Give more epochs, or leave it out.")
    return side, epochs // 2


def device_of(spec: ClassifierSpec) -> str:
    """Type of the device that the spec trains on."""
    return choose_device(spec.device).type


def announce(
    spec: ClassifierSpec, network: Network, index: Index, bytes_of_images: int, progress: Progress
) -> "Expected":
    """Say in one line what is about to happen; what is returned is `progress` that corrects the expected time."""
    device = choose_device(spec.device)
    arithmetic = str(choose_precision(spec.precision, device)).removeprefix("torch.")
    counts = [0] * len(index.classes)
    for label in index.splits["train"].labels:
        counts[label] += 1
    images = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    total = total_steps(spec, steps(sum(counts), spec.batch_size))
    work = (
        "a linear head in closed form" if spec.optimizer == "lbfgs" else f"{total:,} steps of {spec.batch_size} images"
    )
    through = spec.freeze != "all" or (spec.augment != "none" and not spec.views)  # the backbone, in every step
    seconds = total * seconds_a_step(network, spec, device) if through else 0.0
    log.info(
        "Recipe %s on %s in %s: %d classes of %s training images, %s%s; %.2f GB on disk.",
        spec.recipe, device, arithmetic, len(counts), images, work,
        f", {_duration(seconds)}" if through else "", bytes_of_images / 1e9,
    )  # fmt: skip
    return Expected(seconds, progress)


def _duration(seconds: float) -> str:
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {max(1.0, seconds):.0f} seconds"


class Expected:
    """Passes the loop's progress on, and corrects the expected time once, by the training's own first steps."""

    def __init__(self, seconds: float, progress: Progress) -> None:
        """`seconds` is what was said; 0 where nothing was."""
        self._said, self._progress = seconds, progress
        self._first: tuple[int, float] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """So many steps are done; the first is left out of the measure, for it makes what later ones reuse."""
        self._progress(stage, done, total)
        if not self._said:
            return
        if self._first is None:
            self._first = done, time.perf_counter()
        elif done - self._first[0] >= MEASURED_STEPS and done < total:
            began, left = self._first, (total - done) / total
            measured = (total - done) * (time.perf_counter() - began[1]) / (done - began[0])
            if not WELL_SAID[0] <= measured / (self._said * left) <= WELL_SAID[1]:
                log.info("By its first steps the training takes %s more.", _duration(measured))
            self._said = 0.0
