"""What frozen features tell of the data itself: the floor, wrong labels and copies; beside training, after the check.

`data.check` looks at files and pixels; this looks at what a backbone sees. `audit_labels` and `audit_copies` judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from houndsight import metrics
from houndsight.data.looks import files_of
from houndsight.features.audit_copies import of_copies
from houndsight.features.audit_labels import of_labels
from houndsight.models import probe
from houndsight.results import Measure
from houndsight.spec import ClassifierSpec, Finding, Frozen, Index, SplitName
from houndsight.workspace import Progress

if TYPE_CHECKING:  # the network needs torch, the judging does not
    from houndsight.models.network import Built

RULES = {
    "floor": "What a linear head on frozen features gets right on validation, beside always saying the largest class.",
    "label_suspects": "Pictures that look as if they belonged to another class.",
    "similar_contradiction": "The same picture or scene in two classes, by its features.",
    "similar_leak": "The same picture or scene in two splits, by its features.",
    "similar_duplicates": "The same picture or scene twice in one class and split, by its features.",
}
"""Every rule of the audit, and what it finds."""


class Floor(Frozen):
    """The least that a training of this data should reach: a linear head on features that nothing was trained for."""

    backbone: str
    """Full name of the network whose features they are."""
    weights: str
    """Where its weights came from, in words."""
    split: SplitName = "valid"
    """The split it was measured on; the weight decay was chosen there, too."""
    top1: Measure
    """Share of the split's images that the linear head gets right."""
    majority: Measure
    """Share that one gets right by always saying `majority_class`."""
    majority_class: str
    """The largest class of train."""
    decay: float
    """The weight decay that was chosen."""


@dataclass(frozen=True)
class Audit:
    """What the features told."""

    floor: Floor
    findings: list[Finding]
    """In the order of `RULES`."""


def backbone(spec: ClassifierSpec, num_classes: int) -> "Built":
    """The network whose features are looked at; raises `ModelError`, with the ways out, where its weights are not here.

    Built as a training of that spec builds it, so that both find the same features in the cache.
    """
    from houndsight.models import network

    built = network.build(spec.model_copy(update={"freeze": "none"}), num_classes)
    built.network.eval()
    return built


def audit(
    index: Index,
    built: "Built",
    checked: Sequence[Finding],
    cache: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Take the features of every image, from the cache where a training made them, and judge the data by them.

    `checked`: what `data.check` found; its groups of copies are not told again, and stay together where the labels are
    judged. Raises `DataError` where more than 5 % of a split is unreadable.
    """
    from houndsight.data.cache import decode_all
    from houndsight.features.extract import Extractor

    net = built.network
    index, images = decode_all(index, net.preprocess, cache, workers=workers, progress=progress)
    features = Extractor(net, index, images, cache, progress=progress).features()
    groups = [group for each in checked for group in each.evidence.get("groups", ())]
    return judge(index, features.splits, groups, net.name, built.source)


def judge(
    index: Index,
    features: dict[SplitName, NDArray[np.float32]],
    groups: Sequence[Sequence[str]],
    name: str,
    source: str,
) -> Audit:
    """The same, from features (n, D) of each split; `groups`: known copies; `name`, `source`: the network's."""
    files = files_of(index)
    rows = np.concatenate([features[split] for split in index.splits])
    place = {file.path: row for row, file in enumerate(files)}
    known = [[place[path] for path in group if path in place] for group in groups]
    floor = _floor(index, features, name, source)
    copies, ties = of_copies(files, rows, known)
    suspects = of_labels(files, rows, index.classes, [*known, *ties])
    return Audit(floor, [_said(floor), *suspects, *copies])


def _floor(index: Index, features: dict[SplitName, NDArray[np.float32]], name: str, source: str) -> Floor:
    labels = {split: np.array(columns.labels, dtype=np.int64) for split, columns in index.splits.items()}
    classes, valid = len(index.classes), (features["valid"], labels["valid"])
    fitted = probe.fit(features["train"], labels["train"], classes, valid=valid)
    largest = int(np.bincount(labels["train"], minlength=classes).argmax())
    return Floor(
        backbone=name,
        weights=source,
        top1=metrics.accuracy(fitted.logits(valid[0]), valid[1]),
        majority=metrics.wilson(int((valid[1] == largest).sum()), len(valid[1])),
        majority_class=index.classes[largest],
        decay=fitted.decay,
    )


def _said(floor: Floor) -> Finding:
    top1, majority = floor.top1, floor.majority
    return Finding(
        source="check",
        rule="floor",
        severity="info",
        message=f"A linear head on frozen features of {floor.backbone} gets {100 * top1.value:.1f} % of the validation "
        f"images right (95 % interval {100 * top1.low:.1f} to {100 * top1.high:.1f}, {top1.n:,} images); always saying "
        f"'{floor.majority_class}' gets {100 * majority.value:.1f} %.",
        repair="A training that stays below is not worth its time: `--recipe linear` reaches it in seconds.",
        evidence=floor.model_dump(mode="json"),
    )


def not_audited(reason: str) -> Finding:
    """What is said where the data must be repaired before features of it mean anything."""
    return Finding(
        source="check",
        rule="floor",
        status="NotApplicable",
        severity="info",
        message=f"The features were not looked at: {reason}",
        repair="Repair what is named above, then check again.",
    )
