"""The file list without what the check found faulty: what `check --write` writes and `train` takes."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from houndsight.data.duplicates import groups
from houndsight.data.looks import File, files_of
from houndsight.errors import DataError
from houndsight.spec import Finding, Index
from houndsight.workspace import atomic_write

FAULTY = frozenset({"unreadable", "constant"})
"""Rules whose files are left out, each."""
COPIES = frozenset(f"{how}_{kind}" for how in ("exact", "near") for kind in ("duplicates", "leak", "contradiction"))
"""Rules whose groups are reduced to one file, or to none where a group stands in several classes."""
_PREFERENCE = {"test": 0, "valid": 1, "train": 2}


@dataclass(frozen=True)
class Cleaned:
    """What the list holds and what it leaves out."""

    kept: tuple[File, ...]
    """The files of the list, in the order of the index."""
    left_out: int
    """How many of the index's files are not in it."""


def clean(index: Index, findings: Iterable[Finding]) -> Cleaned:
    """Leave out unreadable and constant pictures, every picture that stands in two classes, and all copies but one.

    Of a group of copies the one in test is kept before valid before train: the larger file, then the first name.
    """
    found = list(findings)
    files = files_of(index)
    out = {path for each in found if each.rule in FAULTY for path in each.files}
    row_of = {file.path: row for row, file in enumerate(files)}
    ties = [
        (row_of[group[0]], row_of[other])
        for each in found
        if each.rule in COPIES
        for group in each.evidence.get("groups", ())
        for other in group[1:]
    ]
    for group in groups(ties):
        out |= _surplus([files[row] for row in group if files[row].path not in out])
    kept = tuple(file for file in files if file.path not in out)
    return Cleaned(kept, len(files) - len(kept))


def _surplus(group: Sequence[File]) -> set[str]:
    paths = {file.path for file in group}
    if len({file.label for file in group}) > 1 or not group:
        return paths
    best = min(group, key=lambda file: (_PREFERENCE[file.split], -file.size, file.path))
    return paths - {best.path}


def write(path: Path, index: Index, findings: Iterable[Finding]) -> Cleaned:
    """Write the list (`path,label,split`) that `data.folder.scan` reads; paths are relative to it where they can be.

    Raises `DataError` where nothing would be left or the folder to write to does not exist.
    """
    cleaned = clean(index, findings)
    if not cleaned.kept:
        raise DataError(f"Nothing would be left of {index.root}.", "Look at the findings first.")
    if not path.absolute().parent.is_dir():
        raise DataError(f"The folder {path.absolute().parent} does not exist.", "Make it first.")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "split"))
    folder = path.absolute().parent
    for file in cleaned.kept:
        rows.writerow((_from(folder, Path(index.root) / file.path), index.classes[file.label], file.split))
    with atomic_write(path, "w") as out:
        out.write(text.getvalue())
    return cleaned


def _from(folder: Path, place: Path) -> str:
    inside = os.path.relpath(os.path.normpath(place), folder)
    return os.path.normpath(place) if inside.startswith("..") else f"./{inside}"
