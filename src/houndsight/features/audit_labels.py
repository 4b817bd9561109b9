"""Which labels look wrong: confident learning on out-of-fold probabilities of a linear head; part of `features.audit`.

Northcutt, Jiang and Chuang (2021), "Confident learning: estimating uncertainty in dataset labels", JAIR 70.

Measured with MobileNetV2 features of 3,905 dogs in 70 classes, 5 % of the labels (195) changed at random, three seeds:
of the first 195 pictures by the margin of the logits 91 to 94 % were changed ones; by the margin of the probabilities
76 to 80 %; of the members of the confident joint 57 %. So the joint gives the number of suspects (203, 188, 203: 91 to
92 % of them planted, 88 to 95 % of the planted among them), the logits their order. With temperature-scaled
probabilities the joint counts 223 to 232: recall 96 to 98 %, precision 83 %. Ten of the classes (27 labels changed):
20 to 23 suspects, 87 to 95 % of them planted, 70 to 78 % of the planted among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from houndsight import metrics
from houndsight.data.duplicates import groups
from houndsight.data.looks import File
from houndsight.models import probe
from houndsight.spec import Finding

FOLDS = 5
DECAY = 0.3
"""Weight decay of the folds' heads. 0.1 and 1.0 give the same precision to 2 points."""
ITERATIONS = 30
"""Of L-BFGS: with 100, for twice the time, the same pictures are found."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Suspects:
    """Rows whose label looks wrong, the most suspicious first, and what they look like."""

    rows: Ints
    suggested: Ints
    given_probability: Floats
    suggested_probability: Floats
    margin: Floats
    """Logit of the given class less the highest other; below 0."""


def of_labels(
    files: Sequence[File], features: NDArray[np.float32], classes: Sequence[str], together: Sequence[Sequence[int]]
) -> list[Finding]:
    """One finding with all suspects, or none. `features`: (N, D) of `files`; `together`: rows that share a fold.

    All splits are judged together: a label is right or wrong whichever split it stands in, and more images judge
    better. Copies share a fold, or one wrong label would vouch for the other.
    """
    labels = np.array([file.label for file in files], dtype=np.int64)
    judged = np.bincount(labels, minlength=len(classes))[labels] >= FOLDS
    if len(set(labels[judged].tolist())) < 2:
        return [_too_few()]
    found = suspects(features, labels, len(classes), together, judged)
    return [_finding(files, classes, found, int(judged.sum()))] if len(found.rows) else []


def suspects(
    features: NDArray[np.float32],
    labels: Ints,
    num_classes: int,
    together: Sequence[Sequence[int]] = (),
    judged: NDArray[np.bool_] | None = None,
) -> Suspects:
    """Rows of `features` (N, D) whose `labels` (N,) look wrong; only those that are `judged`, by default all."""
    judged = np.ones(len(labels), dtype=bool) if judged is None else judged
    fold = folds(labels, together)
    logits = np.zeros((len(labels), num_classes), dtype=np.float32)
    for each in range(FOLDS):
        if (fold == each).any():
            held = fold == each
            head = probe.fit(features[~held], labels[~held], num_classes, decays=(DECAY,), iterations=ITERATIONS)
            logits[held] = head.logits(features[held])
    rows = np.flatnonzero(judged)
    own = logits[rows, labels[rows]]
    others = logits[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -np.inf
    margin = own - others.max(1)
    count = min(confident_errors(metrics.softmax(logits[rows]), labels[rows]), int((margin < 0).sum()))
    chosen = np.argsort(margin, kind="stable")[:count]
    found, suggested = rows[chosen], others[chosen].argmax(1)
    # Regularised heads are less sure than they could be: what is told is calibrated (the order does not change).
    told = metrics.softmax(logits[found], metrics.fit_temperature(logits[rows], labels[rows]))
    at = np.arange(count)
    return Suspects(found, suggested, told[at, labels[found]], told[at, suggested], margin[chosen].astype(np.float64))


def confident_errors(probabilities: Floats, labels: Ints) -> int:
    """How many labels are wrong by the confident joint (Northcutt et al. 2021, equation 1): its sum off the diagonal.

    An image counts as of class j where p(j) reaches the mean self-confidence of j's images; of several such classes,
    the most probable. `probabilities`: out of fold, (N, C).
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    totals = np.bincount(labels, weights=own, minlength=classes)
    threshold = np.where(counts > 0, totals / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= threshold, probabilities, -1.0)
    confident = reached.max(1) >= 0
    return int((confident & (reached.argmax(1) != labels)).sum())


def folds(labels: Ints, together: Sequence[Sequence[int]] = (), seed: int = 0) -> Ints:
    """Fold of each row, (N,): each class spread evenly over `FOLDS`, rows that belong `together` in one."""
    random = np.random.default_rng(seed)
    fold = np.empty(len(labels), dtype=np.int64)
    offset = 0
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        fold[rows] = (np.arange(len(rows)) + offset) % FOLDS
        offset += len(rows)
    for joined in groups((group[0], other) for group in together for other in group[1:]):
        fold[joined] = fold[joined[0]]
    return fold


def _finding(files: Sequence[File], classes: Sequence[str], found: Suspects, judged: int) -> Finding:
    each = [
        {
            "file": files[row].path,
            "given": classes[files[row].label],
            "suggested": classes[suggested],
            "given_probability": round(float(given), 4),
            "suggested_probability": round(float(other), 4),
            "margin": round(float(margin), 3),
        }
        for row, suggested, given, other, margin in zip(
            found.rows.tolist(), found.suggested.tolist(), found.given_probability, found.suggested_probability,
            found.margin, strict=True,
        )
    ]  # fmt: skip
    many = "1 picture looks as if it belonged" if len(each) == 1 else f"{len(each):,} pictures look as if they belonged"
    return Finding(
        source="check",
        rule="label_suspects",
        severity="info",
        files=tuple(str(one["file"]) for one in each),
        message=f"{many} to another class ({100 * len(each) / judged:.1f} % of {judged:,}), the most suspicious first.",
        repair="Look at them from the top, and move what is wrong into the folder of its class; further down more and "
        "more of them are right and merely unusual.",
        evidence={
            "reasons": {str(one["file"]): _reason(one) for one in each},
            "suspects": each,
            "judged": judged,
        },
    )


def _reason(one: dict[str, object]) -> str:
    given, suggested = (100 * float(str(one[f"{which}_probability"])) for which in ("given", "suggested"))
    return f"filed under {one['given']} ({given:.1f} %), looks like {one['suggested']} ({suggested:.1f} %)"


def _too_few() -> Finding:
    return Finding(
        source="check",
        rule="label_suspects",
        status="NotApplicable",
        severity="info",
        message=f"Labels were not judged: fewer than two classes have {FOLDS} images.",
        repair=f"Add images until at least two classes have {FOLDS}.",
    )
