"""From trained weights and one split to honest results: metrics, confusion, calibration and the worst mistakes."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from houndsight import metrics
from houndsight.backends.base import Stopped
from houndsight.data.images import thumbnail
from houndsight.data.loader import Batches
from houndsight.errors import DataError, ImageError, JobError
from houndsight.results import Evaluation, Mistake
from houndsight.spec import Index, SplitName
from houndsight.workspace import atomic_write, friendly_disk_errors, write_json

log = logging.getLogger("houndsight")

MISTAKES = 24


def never() -> bool:
    """Nobody asks to stop."""
    return False


def outputs(
    network: nn.Module,
    batches: Batches,
    split: SplitName,
    *,
    precision: AbstractContextManager[Any] | None = None,
    stop: Callable[[], bool] = never,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (N, C) and labels (N,) of a split in its own order, computed where the network lies, in evaluation mode.

    `precision` is entered around each forward pass; without it the arithmetic is that of the weights. Raises `Stopped`
    within one batch after `stop` says so, and `JobError` where an output is not finite.
    """
    device = next(network.parameters()).device
    precision = precision or nullcontext()
    network.eval()
    scores: list[Tensor] = []
    labels: list[Tensor] = []
    ids: list[Tensor] = []
    with torch.inference_mode():
        for batch in batches.evaluate(split):
            if stop():
                raise Stopped
            with precision:
                scores.append(network(batch.images.to(device, non_blocking=True)).float())
            labels.append(batch.labels)
            ids.append(batch.ids)
        if not scores:
            raise DataError(f"There is no image in the {split} split to evaluate on.")
        order = torch.cat(ids).argsort()
        logits = torch.cat(scores).cpu()[order].numpy()
    broken = int((~np.isfinite(logits).all(axis=1)).sum())
    if broken:
        raise JobError(
            f"The network's outputs for {broken} of {len(logits)} images of the {split} split are not finite.",
            "Train again with a lower learning rate (--lr), or with --precision float32.",
        )
    return logits, torch.cat(labels)[order].numpy()


def logits(network: nn.Module, batches: Batches, split: SplitName) -> NDArray[np.float32]:
    """Logits (N, C), float32, of every image of a split in the order of its columns; see `outputs`."""
    return outputs(network, batches, split)[0]


def evaluate(
    index: Index,
    split: SplitName,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    temperature: float,
    folder: Path,
) -> Evaluation:
    """Everything that is said about one split; logits (N, C) and labels (N,) in the order of `index.splits[split]`.

    Writes into `folder` the thumbnails of the most confident mistakes, `<split>.npz` (logits, labels, temperature:
    what every number can be computed from again) and last `<split>.json`.
    """
    if len(logits) != len(index.splits[split]):
        raise ValueError(f"{len(logits)} rows of logits for the {len(index.splits[split])} images of {split}")
    counts = metrics.confusion(labels, logits.argmax(axis=1), len(index.classes))
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    evaluation = Evaluation(
        split=split,
        classes=index.classes,
        metrics=metrics.measures(logits, labels, temperature),
        per_class=metrics.class_scores(counts, index.classes),
        confusion=tuple(tuple(row) for row in counts.tolist()),
        reliability=metrics.reliability(logits, labels, temperature),
        reliability_uncalibrated=metrics.reliability(logits, labels),
        temperature=temperature,
        mistakes=_mistakes(index, split, logits, labels, temperature, folder),
    )
    with atomic_write(folder / f"{split}.npz") as file:
        np.savez(
            file,
            logits=logits.astype(np.float32),
            labels=labels.astype(np.int64),
            temperature=np.float64(temperature),
        )
    write_json(folder / f"{split}.json", evaluation)
    return evaluation


def _mistakes(
    index: Index,
    split: SplitName,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    temperature: float,
    folder: Path,
) -> tuple[Mistake, ...]:
    """The images that were called something else most confidently, worst first, each with its thumbnail."""
    probabilities = metrics.softmax(logits, temperature)
    predicted, confidence = logits.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    for old in folder.glob(f"{split}-mistake-*.jpg"):
        old.unlink(missing_ok=True)
    mistakes = []
    for place, row in enumerate(worst.tolist()):
        path = index.splits[split].paths[row]
        name = f"{split}-mistake-{place:02d}.jpg"
        try:
            picture = thumbnail(Path(index.root) / path)
        except (ImageError, OSError) as error:  # it was readable when training began: results come before pictures
            log.warning("No picture of %s for the report: %s", path, error)
            name = ""
        else:
            with atomic_write(folder / name) as file:
                file.write(picture)
        mistakes.append(
            Mistake(
                path=path,
                label=index.classes[labels[row]],
                predicted=index.classes[predicted[row]],
                probability=float(confidence[row]),
                thumbnail=name,
            )
        )
    return tuple(mistakes)
