"""Evaluate: a trained model on labelled images, in this process; two models are compared image by image."""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from houndsight import metrics
from houndsight.data import folder
from houndsight.errors import DataError
from houndsight.results import ModelCard
from houndsight.spec import Index, Reject, Split
from houndsight.verbs.measured import Comparison, Measured
from houndsight.verbs.models import find_model
from houndsight.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from houndsight.models.artifact import Artifact

log = logging.getLogger("houndsight")

BATCH = 64  # images a forward pass


@dataclass(frozen=True)
class _Images:
    """The images to measure on, labelled by class name."""

    index: Index
    paths: list[str]
    sizes: list[int]
    names: list[str]
    words: str


def evaluate(
    model: str | Path, data: str | Path, other: str | Path | None = None, *, workspace: str | Path | None = None
) -> Measured:
    """Measure `model` on `data`, and `other` beside it where it is given.

    Data with a test split of its own is measured on it. Otherwise all images are measured, except where the model
    was trained on this data: then those that were held back. Images of a class that the model does not know are
    left out and counted. Raises `DataError` where none is left.
    """
    from houndsight.models import artifact

    place = Workspace.find(workspace)
    paths = [find_model(each, workspace) for each in (model, other) if each is not None]
    artifacts = [artifact.load(each) for each in paths]
    images = _known_to_all(_images(data, [each.card for each in artifacts]), [each.card for each in artifacts])
    measured, right = [], []
    for named, path, loaded in zip((model, other), paths, artifacts, strict=False):
        result, hits = _measure(str(named), path, loaded, images, place.cache)
        measured.append(result)
        right.append(hits)
    if other is None:
        return measured[0]
    difference = metrics.paired_difference(*right)
    return replace(measured[0], other=measured[1], comparison=Comparison(difference, metrics.mcnemar(*right)))


def _images(data: str | Path, cards: list[ModelCard]) -> _Images:
    seed = int(cards[0].spec.get("split_seed", 0))
    index = folder.scan(data, split_seed=seed)
    trained = [card for card in cards if index.fingerprint == card.data_fingerprint]
    same_place = [card for card in cards if index.root == card.spec.get("data") and card not in trained]
    if same_place:
        log.warning("The images in %s are not all those the model was trained on.", index.root)
    if "test" in index.splits and (trained or same_place or _test_is_given(data, index)):
        chosen, words = [index.splits["test"]], "the test split"
    else:
        chosen, words = list(index.splits.values()), "all images"
    labels = [label for split in chosen for label in split.labels]
    return _Images(
        index=index,
        paths=[path for split in chosen for path in split.paths],
        sizes=[size for split in chosen for size in split.sizes],
        names=[index.classes[label] for label in labels],
        words=words,
    )


def _test_is_given(data: str | Path, index: Index) -> bool:
    """Whether the data has a test split of its own: one that Houndsight made would change with the seed."""
    if index.split_seed is None:
        return True
    return folder.scan(data, split_seed=index.split_seed + 1).splits.get("test") == index.splits["test"]


def _known_to_all(images: _Images, cards: list[ModelCard]) -> _Images:
    known = set.intersection(*(set(card.classes) for card in cards))
    keep = [row for row, name in enumerate(images.names) if name in known]
    unknown = sorted(set(images.names) - known)
    if not keep:
        raise DataError(
            f"The model knows none of the classes of {images.index.root} ({', '.join(unknown[:5])}, ...).",
            f"Its classes are {', '.join(cards[0].classes[:5])}, ...: name the folders as they were in training.",
        )
    if unknown:
        left = len(images.names) - len(keep)
        log.warning("%s images are left out, of classes the model does not know: %s.", left, ", ".join(unknown))
    return replace(
        images,
        paths=[images.paths[row] for row in keep],
        sizes=[images.sizes[row] for row in keep],
        names=[images.names[row] for row in keep],
        words=images.words if not unknown else f"{images.words} of known classes",
    )


def _measure(
    name: str, path: Path, loaded: "Artifact", images: _Images, cache: Path
) -> tuple[Measured, "np.ndarray[Any, Any]"]:
    """Measure one model; also returns which images it has right, (N,) bool."""
    import numpy as np

    from houndsight.data.cache import decode_all
    from houndsight.data.loader import ImageBatches
    from houndsight.training import evaluate as evaluating

    began = time.monotonic()
    card = loaded.card
    position = {each: number for number, each in enumerate(card.classes)}
    labels = tuple(position[each] for each in images.names)
    split = Split(paths=tuple(images.paths), labels=labels, sizes=tuple(images.sizes))
    splits = {"train": Split(), "valid": Split(), "test": split}
    index = images.index.model_copy(update={"classes": card.classes, "splits": splits, "rejects": ()})
    index, decoded = decode_all(index, card.preprocess, cache)
    _tell(index.rejects)
    batches = ImageBatches(index, decoded, card.preprocess, batch_size=BATCH, seed=0)
    logits = evaluating.logits(loaded.network, batches, "test")
    truth = np.array(index.splits["test"].labels)
    with tempfile.TemporaryDirectory() as scratch:
        result = evaluating.evaluate(index, "test", logits, truth, card.temperature, Path(scratch))
    measured = Measured(name, path, images.words, result, time.monotonic() - began)
    return measured, metrics.hits(logits, truth)


def _tell(rejects: tuple[Reject, ...]) -> None:
    for each in rejects:
        log.warning("Left out: %s: %s", each.path, each.reason)
