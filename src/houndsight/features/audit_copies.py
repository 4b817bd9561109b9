"""Which pictures show the same to a backbone: cosines of whitened features; part of `features.audit`.

`data.duplicates` proves copies by pixels. What it cannot overlay (turned, bordered, cropped at a corner, two shots of
one scene) is near by its features. Whitened, because plain cosines of features are dominated by what all share.

Measured with MobileNetV2 features of 3,905 dogs, at the bar where 32 pairs are raised that the pixels had not
proven: share of 100 planted copies of each kind found with whitened (and with plain) features. JPEG quality 30 99 %
(96), brighter 1.4 94 % (90), half as bright 94 % (87), mirrored 100 % (100), turned by 5 degrees 100 % (100) and by
15 89 % (78), cropped by 10 % a side 80 % (62), one corner 20 % off 38 % (21), bordered 39 % (36), grey 27 % (17);
of the 133 pairs that the pixels had proven 96 % (95). Of the 32, by eye, 28 are one picture or one scene.
"""

from collections import defaultdict
from collections.abc import Sequence
from math import log2
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from houndsight.data.duplicates import groups
from houndsight.data.looks import File
from houndsight.spec import Finding

DIRECTIONS = 512
"""Directions of most variance that are kept, and at most one for `IMAGES_A_DIRECTION` images."""
IMAGES_A_DIRECTION = 8
"""With fewer, whitening fits single pictures, and copies are pushed apart like any other pair."""
FEWEST = 32
"""Directions below which pictures of one class cannot be told from copies."""
BAR = 0.65
"""Least cosine with 512 directions."""
STEP = 0.077
"""How much the bar rises where the number of directions is halved (measured: 0.651, 0.726 and 0.805 at 512 to 128)."""
GAP = 0.05
"""Below the bar there must be few pairs over this much: else copies do not stand apart from what merely looks alike."""
CROWD = 0.01
"""Most pairs in that gap, as a share of the pictures."""
CROWD_OF_COPIES = 0.2
"""The same as a share of the pairs above the bar: where there are many copies, some agree a little less."""
MOST = 1
"""Pairs a picture, above the bar or in the gap, from which on all are alike."""
_TILE = 1024

Floats = NDArray[np.float32]
Kind = Literal["duplicates", "leak", "contradiction"]
_SEVERITY: dict[Kind, Literal["info", "warning"]] = {
    "contradiction": "warning",
    "leak": "warning",
    "duplicates": "info",
}
_SAID = {
    "contradiction": "in different classes: one label at least may be wrong",
    "leak": "across splits: what is learned by heart counts as understood",
    "duplicates": "within one class and split",
}
_REPAIR = {
    "contradiction": "Look at each group; keep the one with the right label.",
    "leak": "Look at each group; keep all of one scene in one split.",
    "duplicates": "Look at each group; a copy adds nothing, another shot of the scene adds little.",
}


def of_copies(
    files: Sequence[File], features: Floats, known: Sequence[Sequence[int]]
) -> tuple[list[Finding], list[list[int]]]:
    """Findings about pictures that look the same, and the groups of rows; `known` groups are not told again.

    `features`: (N, D), in the order of `files`.
    """
    white = whitened(features)
    pairs = None if white is None else near_pairs(white, bar(white.shape[1]))
    if pairs is None:
        return [_undecided(len(files))], []
    told = _group_of(known)
    new = [(a, b, cosine) for a, b, cosine in pairs if told.get(a, -1) != told.get(b, -2)]
    by_kind: dict[Kind, list[tuple[int, int, float]]] = defaultdict(list)
    for a, b, cosine in new:
        by_kind[_kind(files[a], files[b])].append((a, b, cosine))
    found = [_finding(files, by_kind[kind], kind) for kind in _SEVERITY if by_kind[kind]]
    return found, groups((a, b) for a, b, _ in new)


def _group_of(known: Sequence[Sequence[int]]) -> dict[int, int]:
    joined = groups((group[0], other) for group in known for other in group[1:])
    return {row: number for number, group in enumerate(joined) for row in group}


def whitened(features: Floats) -> Floats | None:
    """(N, K) of unit length: centred, along the K directions of most variance, each scaled to variance 1.

    None where the images allow fewer than `FEWEST` directions.
    """
    count, width = features.shape
    x_ND = features - features.mean(0)
    values_D, vectors_DD = np.linalg.eigh((x_ND.T @ x_ND).astype(np.float64) / count)
    real = int((values_D > 1e-6 * max(float(values_D[-1]), 1e-12)).sum())
    kept = min(width, real, DIRECTIONS, count // IMAGES_A_DIRECTION)
    if kept < FEWEST:
        return None
    scale_DK = (vectors_DD[:, -kept:] / np.sqrt(values_D[-kept:])).astype(np.float32)
    white_NK = x_ND @ scale_DK
    return np.asarray(white_NK / np.maximum(np.linalg.norm(white_NK, axis=1, keepdims=True), 1e-12), np.float32)


def bar(directions: int) -> float:
    """Least cosine of two pictures that show the same; the fewer the directions, the nearer all pictures are."""
    return BAR + STEP * log2(DIRECTIONS / directions)


def near_pairs(white_NK: Floats, least: float) -> list[tuple[int, int, float]] | None:
    """Rows a < b and their cosine, from `least` on, the nearest first; None where such pairs do not stand apart."""
    count = len(white_NK)
    found: list[tuple[int, int, float]] = []
    crowd = 0
    for top in range(0, count, _TILE):
        for left in range(top, count, _TILE):
            cosine_AB = white_NK[top : top + _TILE] @ white_NK[left : left + _TILE].T
            a, b = np.nonzero(cosine_AB >= least - GAP)
            later = a + top < b + left
            for i, j, cosine in zip(a[later], b[later], cosine_AB[a[later], b[later]], strict=True):
                if cosine < least:
                    crowd += 1
                else:
                    found.append((int(i) + top, int(j) + left, float(cosine)))
            if max(crowd, len(found)) > MOST * count:
                return None
    if crowd > max(3.0, CROWD * count, len(found) * CROWD_OF_COPIES):
        return None
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def _kind(a: File, b: File) -> Kind:
    if a.label != b.label:
        return "contradiction"
    return "duplicates" if a.split == b.split else "leak"


def _finding(files: Sequence[File], pairs: Sequence[tuple[int, int, float]], kind: Kind) -> Finding:
    nearest: dict[int, float] = {}
    for a, b, cosine in pairs:
        nearest[a], nearest[b] = max(cosine, nearest.get(a, 0.0)), max(cosine, nearest.get(b, 0.0))
    joined = sorted(groups((a, b) for a, b, _ in pairs), key=lambda group: -max(nearest[row] for row in group))
    rows = [row for group in joined for row in group]
    times = "once" if len(joined) == 1 else f"{len(joined):,} times"
    return Finding(
        source="check",
        rule=f"similar_{kind}",
        severity=_SEVERITY[kind],
        files=tuple(files[row].path for row in rows),
        message=f"What looks like one picture or scene stands {times} ({len(rows):,} files) {_SAID[kind]}.",
        repair=_REPAIR[kind],
        evidence={
            "groups": [[files[row].path for row in group] for group in joined],
            "pairs": [[files[a].path, files[b].path, round(cosine, 4)] for a, b, cosine in pairs],
        },
    )


def _undecided(count: int) -> Finding:
    few = count < FEWEST * IMAGES_A_DIRECTION
    return Finding(
        source="check",
        rule="similar_duplicates",
        status="NotApplicable",
        severity="info",
        message=f"With {count:,} pictures features cannot tell copies; {FEWEST * IMAGES_A_DIRECTION} are needed."
        if few
        else "The pictures are so alike to this backbone that its features cannot tell copies from different ones.",
        repair="" if few else "Try another --backbone; what the pixels prove is told above all the same.",
    )
