"""The second station: what is wrong with the data, from an `Index` to findings; reads every file once, trains nothing.

`looks` opens the files; `check_files`, `check_classes` and `check_copies` judge what was seen; `clean` lists what is
sound. The result is kept under the cache, so that training after checking looks at nothing again.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from houndsight.data.cache import cores
from houndsight.data.check_classes import of_classes
from houndsight.data.check_copies import of_copies
from houndsight.data.check_files import of_files
from houndsight.data.looks import File, files_of, look_at_all
from houndsight.spec import Finding, Index
from houndsight.workspace import Progress, friendly_disk_errors, write_json

log = logging.getLogger("houndsight")

VERSION = 1
"""Raised with every change of a rule or of a number in one; part of the cache's key."""

RULES = {
    "unreadable": "Files that cannot be read: empty, truncated, damaged, or no picture under a picture's name.",
    "not_an_image": "Files whose ending is no picture's.",
    "outside_classes": "Pictures beside the class folders.",
    "missing_file": "Files that the list names and that are not there.",
    "left_out": "Whatever else the scan left out, with its reason.",
    "wrong_root": "The folder is not the one with the classes, and one near it is.",
    "cannot_train": "What training would refuse this data for.",
    "empty_class": "Class folders without a picture.",
    "missing_class": "Classes of train without a picture in another split.",
    "unknown_class": "Classes of another split that train does not have.",
    "near_equal_names": "Class names that differ by case, blanks, punctuation or one letter.",
    "imbalance": "The largest class of train over the smallest: told from 3, a warning from 10.",
    "small_class": "Classes with fewer than 5 pictures in train.",
    "small_split": "How far apart two models must be for a split to tell: a warning above 5 points.",
    "exact_duplicates": "The same file twice in one class and split.",
    "near_duplicates": "The same picture twice in one class and split, changed a little.",
    "exact_leak": "The same file in two splits.",
    "near_leak": "The same picture in two splits, changed a little.",
    "exact_contradiction": "The same file in two classes.",
    "near_contradiction": "The same picture in two classes, changed a little.",
    "constant": "Pictures of one colour.",
    "tiny": "Pictures with a side under 32 pixels.",
    "huge": "Pictures of more than 20 million pixels.",
    "extreme_aspect": "Pictures more than four times as long as wide.",
    "grey": "Grey pictures among coloured ones.",
}
"""Every rule of the check, and what it finds."""

_RANK = {"error": 0, "warning": 1, "info": 2}


def check(
    index: Index, *, workers: int | None = None, progress: Progress | None = None, cache: Path | None = None
) -> list[Finding]:
    """Read every file of `index` and judge it; findings, the worst first.

    With `cache`, the folder of what may be deleted, the result is kept there by fingerprint and times of the files
    and read back where nothing changed. `progress` is told ("check", done, total).
    """
    place = _place(index, cache) if cache else None
    found = _read(place) if place else None
    if found is not None:
        return found
    files = files_of(index)
    looks = look_at_all(Path(index.root), files, workers, progress)
    findings = ordered(
        [*of_files(files, looks), *of_classes(index, files, looks), *of_copies(files, looks, workers or cores())]
    )
    if place:
        with friendly_disk_errors(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {"findings": [each.model_dump(mode="json") for each in findings]})
    return findings


def kept(index: Index, cache: Path) -> list[Finding] | None:
    """The result for these files, as they are, where it is in the cache."""
    return _read(_place(index, cache))


def _place(index: Index, cache: Path) -> Path:
    return cache / "check" / f"{_key(index)}.json"


def _read(place: Path) -> list[Finding] | None:
    if not place.is_file():
        return None
    return [Finding.model_validate(each) for each in json.loads(place.read_bytes())["findings"]]


def ordered(findings: list[Finding]) -> list[Finding]:
    """Errors, then warnings, then information; among these in the order of `RULES`."""
    place = {rule: number for number, rule in enumerate(RULES)}
    return sorted(findings, key=lambda each: (_RANK[each.severity], place[each.rule]))


def document(index: Index, findings: list[Finding]) -> dict[str, Any]:
    """What `check.json` and `check --json` hold: the findings, images by class and split, and the splits' sizes."""
    return {
        "findings": [each.model_dump(mode="json") for each in findings],
        "classes": {
            name: {split: columns.labels.count(label) for split, columns in index.splits.items()}
            for label, name in enumerate(index.classes)
        },
        "splits": {
            split: {"images": len(columns), "bytes": sum(columns.sizes)} for split, columns in index.splits.items()
        },
    }


def _key(index: Index) -> str:
    """Names the result: the fingerprint, what the scan left out, and when each file was last written."""
    digest = hashlib.sha256(f"{VERSION} {index.fingerprint}".encode())
    digest.update(json.dumps([each.model_dump() for each in index.rejects]).encode())
    for file in files_of(index):
        digest.update(f"{_written(index.root, file)} ".encode())
    return digest.hexdigest()[:32]


def _written(root: str, file: File) -> int:
    try:
        return os.stat(f"{root}/{file.path}").st_mtime_ns  # noqa: PTH116 - at every start, for every file
    except OSError:
        return 0
