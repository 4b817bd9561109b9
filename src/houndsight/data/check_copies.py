"""Findings about copies: duplicates within a split, leaks across splits, contradictory labels; part of `data.check`.

A copy in another class contradicts; in another split of the same class it leaks; else it is a mere duplicate.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, product
from typing import Literal

import numpy as np

from houndsight.data.duplicates import Copies, groups, search
from houndsight.data.looks import File, Look
from houndsight.spec import Finding

Kind = Literal["duplicates", "leak", "contradiction"]
LEAST_SIDE = 16
"""Shorter side in pixels below which near copies are not looked for: there is too little to see."""

_SEVERITY: dict[str, Literal["info", "warning", "error"]] = {
    "exact_duplicates": "warning",
    "near_duplicates": "info",
    "exact_leak": "error",
    "near_leak": "error",
    "exact_contradiction": "error",
    "near_contradiction": "error",
}
_SAID = {
    "duplicates": "within one class and split",
    "leak": "across splits: what is learned by heart counts as understood",
    "contradiction": "in different classes: one label at least is wrong",
}
_REPAIR = {
    "duplicates": "Keep one of each group; `--write clean.csv` lists the data so.",
    "leak": "Keep one of each group, in test before valid before train; `--write clean.csv` lists the data so.",
    "contradiction": "Keep the one with the right label; `--write clean.csv` leaves out both.",
}


def of_copies(files: Sequence[File], looks: Sequence[Look], workers: int) -> list[Finding]:
    """Every finding that needs two files at a time; constant pictures are not compared by their looks."""
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for row, look in enumerate(looks):
        if not look.reason:
            by_content[look.digest].append(row)
    found = list(_by_kind(files, _exact(files, by_content), "exact"))
    contents = [rows for rows in by_content.values() if _can_be_compared(looks[rows[0]])]
    miniatures_NSS = np.stack([_miniature(looks[rows[0]]) for rows in contents]) if contents else None
    if miniatures_NSS is not None:
        copies = search(miniatures_NSS, workers)
        found += _by_kind(files, _near(files, contents, copies), "near")
        found += _undecided(files, contents, copies)
    return found


def _can_be_compared(look: Look) -> bool:
    return not look.constant and min(look.width, look.height) >= LEAST_SIDE


def _miniature(look: Look) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    assert look.miniature is not None
    return look.miniature


Tie = tuple[int, int, float, bool]
"""Two rows of `files`, their agreement, and whether mirrored."""


def _exact(files: Sequence[File], by_content: dict[bytes, list[int]]) -> Iterator[Tie]:
    for rows in by_content.values():
        first_of = _by_place(files, rows)
        for group in first_of.values():
            yield from ((group[0], other, 1.0, False) for other in group[1:])
        for a, b in combinations([group[0] for group in first_of.values()], 2):
            yield a, b, 1.0, False


def _near(files: Sequence[File], contents: Sequence[list[int]], copies: Copies) -> Iterator[Tie]:
    """One tie a pair of places (split, class) of the two contents: their exact copies are told elsewhere."""
    for pair in copies.pairs:
        a_rows, b_rows = (
            [group[0] for group in _by_place(files, contents[side]).values()] for side in (pair.a, pair.b)
        )
        for a, b in product(a_rows, b_rows):
            yield a, b, pair.agreement, pair.mirrored


def _by_place(files: Sequence[File], rows: Iterable[int]) -> dict[tuple[str, int], list[int]]:
    places: dict[tuple[str, int], list[int]] = defaultdict(list)
    for row in rows:
        places[files[row].split, files[row].label].append(row)
    return places


def _kind(a: File, b: File) -> Kind:
    if a.label != b.label:
        return "contradiction"
    return "duplicates" if a.split == b.split else "leak"


def _by_kind(files: Sequence[File], ties: Iterable[Tie], how: Literal["exact", "near"]) -> Iterator[Finding]:
    sorted_ties: dict[Kind, list[Tie]] = defaultdict(list)
    for tie in ties:
        sorted_ties[_kind(files[tie[0]], files[tie[1]])].append(tie)
    for kind in ("contradiction", "leak", "duplicates"):
        if sorted_ties[kind]:
            yield _finding(files, sorted_ties[kind], kind, how)


def _finding(files: Sequence[File], ties: list[Tie], kind: Kind, how: Literal["exact", "near"]) -> Finding:
    rule = f"{how}_{kind}"
    joined = groups((a, b) for a, b, _, _ in ties)
    rows = [row for group in joined for row in group]
    what = "the same file" if how == "exact" else "the same picture, changed a little,"
    evidence: dict[str, object] = {"groups": [[files[row].path for row in group] for group in joined]}
    if how == "near":
        evidence["agreement"] = {"least": min(tie[2] for tie in ties), "mirrored": sum(tie[3] for tie in ties)}
    times = "once" if len(joined) == 1 else f"{len(joined):,} times"
    return Finding(
        source="check",
        rule=rule,
        severity=_SEVERITY[rule],
        files=tuple(files[row].path for row in rows),
        message=f"{what[0].upper()}{what[1:]} stands {_SAID[kind]} {times} ({len(rows):,} files)."
        if kind == "duplicates"
        else f"{what[0].upper()}{what[1:]} stands {times} ({len(rows):,} files) {_SAID[kind]}.",
        repair=_REPAIR[kind],
        evidence=evidence,
    )


def _undecided(files: Sequence[File], contents: Sequence[list[int]], copies: Copies) -> list[Finding]:
    """Say so where all pictures are so alike that near copies cannot be told from different pictures."""
    if copies.bar is not None:
        return []
    return [
        Finding(
            source="check",
            rule="near_duplicates",
            status="NotApplicable",
            severity="info",
            message="The pictures are so alike that near copies cannot be told from different ones; "
            "only files of the same content were compared.",
            repair="If they are frames of films or series of one subject, put each film or subject into one split.",
            evidence={
                "alike": [
                    [files[contents[pair.a][0]].path, files[contents[pair.b][0]].path, pair.agreement]
                    for pair in copies.alike[:50]
                ]
            },
        )
    ]
