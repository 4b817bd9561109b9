"""Finds pictures that are copies of one another, from 32 x 32 grey miniatures; `data.check` words what it finds.

Two stages. *Candidates*: pairs whose 8 x 8 signatures correlate by 0.8 or more, by matrix products in tiles, between
the pictures, their mirror images and their centres. *Proof*: `data.overlay` lays the two miniatures over one another,
and they must then correlate by 0.94.

Why not difference hashes: with 250 planted copies of each kind in 3,905 dog pictures, a 64-bit difference hash finds
half of the copies cropped by 5 % a side at the distance (9) where it raises 105 pairs; the 256-bit one at distance 12,
by which that very pack had been cleaned, had left 110 real pairs in it. Aligned miniatures find all crops of 5 % and
98 % of those of 10 %; every pair above 0.94 was a copy to the eye, and 3 pairs lay between 0.92 and 0.94.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from houndsight.data.overlay import SIDE, agreement, correlation

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

SAME = (0.94, 0.96, 0.98)
"""Least agreement that proves a copy; the later ones where pictures that are no copies come close to the first."""
GAP = 0.02
"""How far below the bar there must be (almost) nothing: copies stand apart, and what merely looks alike does not."""
CROWD = 0.01
"""Pairs in that gap, as a share of the pictures, from which on copies do not stand apart any more."""
CROWD_OF_COPIES = 0.1
"""The same as a share of the pairs above the bar: copies of every strength (small turns) leave a few there."""
CANDIDATE = (0.80, 0.85, 0.90, 0.95)
"""Least correlation of two signatures for a closer look; the first that keeps to `MOST_CANDIDATES`."""
MOST_CANDIDATES = (200_000, 4)
"""Pairs that may need a closer look (0.2 ms each), in all or a picture; where 0.95 gives more, all are alike."""
_MARGIN = 2.5
"""What the centre leaves out at each edge, in pixels of the miniature: reaches crops of up to 10 % a side."""
_TILE = 1024
_PROBE = 512
_MOST_PROBED = 3_000
_PAIRS = 256


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that show the same: rows `a` < `b`, how well they agree (at most 1), and whether mirrored."""

    a: int
    b: int
    agreement: float
    mirrored: bool


@dataclass(frozen=True)
class Copies:
    """What the search found."""

    pairs: list[Pair] = field(default_factory=list)
    """Proven copies, by rows."""
    bar: float | None = None
    """The agreement they had to reach; None where no bar parts copies from pictures that merely look alike."""
    alike: list[Pair] = field(default_factory=list)
    """Where there is no such bar: pairs above the first one, of the pictures that were probed."""


Candidates = tuple[Ints, Ints, bool]
"""Rows i, rows j, and whether the mirror image of i looks like j."""


@dataclass(frozen=True)
class _Probe:
    """A few hundred pictures against all: what a search will meet."""

    least: float | None
    """The lowest bar of `CANDIDATE` that keeps to `MOST_CANDIDATES`; None where all pictures are alike."""
    some: list[Candidates]
    """Candidates by the first bar, at most `_MOST_PROBED` of them."""


def search(miniatures_NSS: Bytes, workers: int = 1) -> Copies:
    """Find every pair of rows that are copies: re-encoded, resized, brightened, slightly cropped, or mirrored.

    `miniatures_NSS`: (N, 32, 32) uint8 grey, as `data.check` makes them. Pictures without features are passed over.
    """
    textured_M = np.flatnonzero(_by_tiles(miniatures_NSS, lambda tile: tile.std((1, 2))) > 2.0)
    if len(textured_M) < 2:
        return Copies(bar=SAME[0])
    small_MSS = miniatures_NSS[textured_M]
    signatures = _Signatures(small_MSS)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:

        def score(found: Iterable[Candidates]) -> list[Pair]:
            each = pool.map(lambda chunk: _score(small_MSS, *chunk), _chunks(found))
            return _best(_renamed(pair, textured_M) for pairs in each for pair in pairs)

        probe = signatures.probe()
        bar = _bar(score(probe.some), len(textured_M))
        if bar is None or probe.least is None:
            return Copies(alike=[pair for pair in score(probe.some) if pair.agreement >= SAME[0]])
        return Copies([pair for pair in score(signatures.candidates(probe.least)) if pair.agreement >= bar], bar)


def groups(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Join pairs that share a row into groups, each sorted, in the order of their first row."""
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while parent.setdefault(row, row) != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    found: dict[int, list[int]] = {}
    for row in sorted(parent):
        found.setdefault(root(row), []).append(row)
    return list(found.values())


class _Signatures:
    """8 x 8 pictures of zero mean and unit length (rows of 64), of the whole, its mirror image and its centre."""

    def __init__(self, miniatures_NSS: Bytes) -> None:
        self.whole_ND = _by_tiles(miniatures_NSS, lambda tile: _signature(tile, 0.0))
        self.centre_ND = _by_tiles(miniatures_NSS, lambda tile: _signature(tile, _MARGIN))
        self.mirror_ND = np.ascontiguousarray(self.whole_ND.reshape(-1, 8, 8)[:, :, ::-1]).reshape(-1, 64)

    def probe(self) -> _Probe:
        """Compare `_PROBE` pictures with all."""
        count = len(self.whole_ND)
        random = np.random.default_rng(0)
        rows_B = np.sort(random.permutation(count)[:_PROBE])
        found: list[Candidates] = []
        many = dict.fromkeys(CANDIDATE, 0)
        for left in range(0, count, _TILE):
            columns_C = np.arange(left, min(left + _TILE, count))
            for value_BC, mirrored in zip(self._compare(rows_B, columns_C), (False, True), strict=True):
                value_BC[rows_B[:, None] == columns_C] = -1.0
                for bar in CANDIDATE:
                    many[bar] += int(np.count_nonzero(value_BC >= bar))
                i, j = np.nonzero(value_BC >= CANDIDATE[0])
                found.append((rows_B[i], columns_C[j], mirrored))
        most = max(MOST_CANDIDATES[0], MOST_CANDIDATES[1] * count) * 2 * len(rows_B) / count
        least = next((bar for bar in CANDIDATE if many[bar] <= most), None)
        share = min(1.0, _MOST_PROBED / max(1, many[CANDIDATE[0]]))
        return _Probe(least, [_thinned(each, share, random) for each in found])

    def candidates(self, least: float) -> Iterator[Candidates]:
        """Rows (i, j) with i < j whose signatures reach `least`, and whether it was the mirror image that did."""
        count = len(self.whole_ND)
        for top in range(0, count, _TILE):
            rows_A = np.arange(top, min(top + _TILE, count))
            for left in range(top, count, _TILE):
                columns_B = np.arange(left, min(left + _TILE, count))
                plain_AB, mirror_AB = self._compare(rows_A, columns_B)
                later_AB = rows_A[:, None] < columns_B if left == top else None
                for value_AB, mirrored in ((plain_AB, False), (mirror_AB, True)):
                    hits_AB = value_AB >= least
                    if later_AB is not None:
                        hits_AB &= later_AB
                    i, j = np.nonzero(hits_AB)
                    if len(i):
                        yield rows_A[i], columns_B[j], mirrored

    def _compare(self, rows_A: Ints, columns_B: Ints) -> tuple[Floats, Floats]:
        whole_DB = self.whole_ND[columns_B].T
        plain_AB = self.whole_ND[rows_A] @ whole_DB
        np.maximum(plain_AB, self.centre_ND[rows_A] @ whole_DB, out=plain_AB)
        np.maximum(plain_AB, self.whole_ND[rows_A] @ self.centre_ND[columns_B].T, out=plain_AB)
        return plain_AB, self.mirror_ND[rows_A] @ whole_DB


def _by_tiles(miniatures_NSS: Bytes, function: Callable[[Bytes], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What `function` makes of each row: all miniatures as floats at once would be 4 to 8 kB a picture."""
    starts = range(0, max(1, len(miniatures_NSS)), _TILE)
    return np.concatenate([function(miniatures_NSS[at : at + _TILE]) for at in starts])


def _signature(miniatures_NSS: Bytes, margin: float) -> Floats:
    edges = np.linspace(margin, SIDE - margin, 9)
    pixels = np.arange(SIDE)
    share_8S = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    mean_8S = (np.clip(share_8S, 0, None) / (edges[1] - edges[0])).astype(np.float32)
    small_ND = (mean_8S @ miniatures_NSS.astype(np.float32) @ mean_8S.T).reshape(len(miniatures_NSS), -1)
    small_ND -= small_ND.mean(1, keepdims=True)
    return np.asarray(small_ND / (np.linalg.norm(small_ND, axis=1, keepdims=True) + 1e-3), np.float32)


def _thinned(found: Candidates, share: float, random: np.random.Generator) -> Candidates:
    i_P, j_P, mirrored = found
    keep = random.random(len(i_P)) < share
    return np.minimum(i_P, j_P)[keep], np.maximum(i_P, j_P)[keep], mirrored


def _chunks(found: Iterable[Candidates]) -> Iterator[Candidates]:
    for i, j, mirrored in found:
        for start in range(0, len(i), _PAIRS):
            yield i[start : start + _PAIRS], j[start : start + _PAIRS], mirrored


def _score(miniatures_NSS: Bytes, i_P: Ints, j_P: Ints, mirrored: bool) -> list[Pair]:
    """The pairs that agree by the first bar less its gap: as they lie, else overlaid, either one on the other."""
    a_PSS, b_PSS = miniatures_NSS[i_P].astype(np.float32), miniatures_NSS[j_P].astype(np.float32)
    if mirrored:
        a_PSS = a_PSS[:, :, ::-1]
    value_P = correlation(a_PSS, b_PSS)
    for one_PSS, other_PSS in ((a_PSS, b_PSS), (b_PSS, a_PSS)):
        open_Q = np.flatnonzero(value_P < SAME[-1])
        value_P[open_Q] = np.maximum(value_P[open_Q], agreement(one_PSS[open_Q], other_PSS[open_Q]))
    keep = np.flatnonzero(value_P >= SAME[0] - GAP)
    return [Pair(int(i_P[k]), int(j_P[k]), round(float(value_P[k]), 4), mirrored) for k in keep]


def _renamed(pair: Pair, rows_M: Ints) -> Pair:
    return Pair(int(rows_M[pair.a]), int(rows_M[pair.b]), pair.agreement, pair.mirrored)


def _best(scored: Iterable[Pair]) -> list[Pair]:
    """One entry a pair of rows: the better of plain and mirrored."""
    best: dict[tuple[int, int], Pair] = {}
    for pair in sorted(scored, key=lambda each: (each.a, each.b, -each.agreement, each.mirrored)):
        best.setdefault((pair.a, pair.b), pair)
    return list(best.values())


def _bar(pairs: list[Pair], count: int) -> float | None:
    """The first bar of `SAME` with a gap below it, or None; `pairs` are those of the probe."""
    for bar in SAME:
        above = sum(pair.agreement >= bar for pair in pairs)
        crowd = sum(bar - GAP <= pair.agreement < bar for pair in pairs)
        if crowd <= max(3.0, CROWD * min(count, _PROBE), above * CROWD_OF_COPIES):
            return bar
    return None
