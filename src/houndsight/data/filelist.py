"""A CSV file list (path, label and, if wanted, split) as an `Index`; beside `folder`, which calls it."""

import csv
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from houndsight.data import walk
from houndsight.data.splits import ALIASES, assemble
from houndsight.data.walk import Item
from houndsight.errors import DataError, did_you_mean
from houndsight.spec import Index, Reject, SplitName

log = logging.getLogger("houndsight")

MISSING_SHARE = 0.05
"""Share of the listed files that may be missing before the list is refused."""
_COLUMNS = {
    "path": ("path", "file", "filename", "image"),
    "label": ("label", "class"),
    "split": ("split", "subset"),
}
_BYTES = 1 << 30


def scan(path: Path, *, split_seed: int = 0) -> Index:
    """Read the list at `path`; its paths are relative to the list's own folder, or absolute.

    Raises `DataError`, naming the line, for anything that cannot be understood. Files that are listed but not there
    are left out and named; where they are more than 5 % the list is refused.
    """
    root = path.parent
    rejects: list[Reject] = []
    found: dict[SplitName, list[Item]] = {}
    absent: list[str] = []
    seen: dict[str, tuple[str, str, int]] = {}
    for line, (name, label, split) in _rows(path):
        where, to = _inside(root, name), _split(path, line, split)
        if where in seen:
            _repeated(path, line, where, (label, to or ""), seen[where], rejects)
            continue
        seen[where] = (label, to or "", line)
        item = _item(root, where, label, to, rejects, absent)
        if item is not None:
            found.setdefault(to or "train", []).append(item)
    if len(absent) > MISSING_SHARE * len(seen):
        first = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise DataError(
            f"{len(absent):,} of the {len(seen):,} files in {path} do not exist: {first}.",
            f"Paths are relative to the list's folder, {root}.",
        )
    if "train" not in found:
        raise DataError(f"{path} names no image for train.", "Add rows, or leave the column split away.")
    if "valid" not in found and "test" in found:
        log.info("%s has no valid rows: a tenth of train is taken for validation.", path)
    return assemble(root, found, rejects, where=str(path), split_seed=split_seed)


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """(line, (path, label, split)) of every row that is not blank; split is '' where there is no such column."""
    if path.stat().st_size > _BYTES:
        raise DataError(f"{path} is larger than 1 GiB: no file list.", "Give a list with the columns path,label.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            start = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=start.count)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            header = next(reader, [])
            at = _header(path, header)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, _cells(path, reader.line_num, row, at)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check its rights.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}.", "Save it again as CSV, UTF-8.") from error


def _header(path: Path, header: Sequence[str]) -> dict[str, int]:
    names = [cell.strip().casefold() for cell in header]
    at: dict[str, int] = {}
    for column, words in _COLUMNS.items():
        hits = [number for number, name in enumerate(names) if name in words]
        if len(hits) > 1:
            raise DataError(f"{path} has two columns for the {column}.", f"Keep one, named '{column}'.")
        if hits:
            at[column] = hits[0]
    for column in ("path", "label"):
        if column not in at:
            raise DataError(
                f"The first line of {path} names no column '{column}'.",
                did_you_mean(column, header) or "It must read path,label or path,label,split.",
            )
    return at


def _cells(path: Path, line: int, row: Sequence[str], at: dict[str, int]) -> tuple[str, str, str]:
    cells = [row[at[column]].strip() if column in at and at[column] < len(row) else "" for column in _COLUMNS]
    for column in _COLUMNS:
        if column in at and not cells[list(_COLUMNS).index(column)]:
            raise DataError(f"Line {line} of {path} has no {column}.", "Fill it in or delete the line.")
    if "\0" in cells[0]:
        raise DataError(f"Line {line} of {path} has a path that no file can have.", "Correct the line.")
    return cells[0], walk.class_name(cells[1]), cells[2]


def _split(path: Path, line: int, word: str) -> SplitName | None:
    if not word:
        return None
    if word.casefold() not in ALIASES:
        raise DataError(f"Line {line} of {path}: '{word}' is no split.", "Write train, valid or test.")
    return ALIASES[word.casefold()]


def _inside(root: Path, name: str) -> str:
    """The path relative to `root` with `/` where it lies inside, else as an absolute path."""
    place = os.path.normpath(root / name)
    inside = os.path.relpath(place, root)
    return place if inside.startswith("..") else inside


def _repeated(
    path: Path, line: int, where: str, now: tuple[str, str], before: tuple[str, str, int], rejects: list[Reject]
) -> None:
    if now != before[:2]:
        raise DataError(
            f"{path} names {where} twice with different labels or splits, in lines {before[2]} and {line}.",
            "Keep the right one.",
        )
    rejects.append(Reject(path=where, reason=f"line {line} repeats line {before[2]}"))


def _item(
    root: Path, where: str, label: str, split: str | None, rejects: list[Reject], absent: list[str]
) -> Item | None:
    status = walk.status(root / where)
    reason = walk.refusal(root / where, status)
    if reason is None and status is not None:
        return Item(where, label, status.st_size)
    if status is None:
        absent.append(where)
        reason = "does not exist"
    rejects.append(Reject(path=walk.printable(where), split=split, reason=reason or ""))
    return None
