"""Looks at a folder that the scan refuses, so that the check can say everything that is wrong with it at once."""

from collections import defaultdict
from pathlib import Path

from houndsight.data import walk
from houndsight.data.splits import ALIASES, ORDER, fingerprint
from houndsight.errors import DataError
from houndsight.spec import Finding, Index, Reject, Split, SplitName


def survey(root: Path, refusal: DataError) -> tuple[Index, list[Finding]]:
    """What can be seen of `root`, which `scan` refused by `refusal`, and the findings about its layout.

    The index may lack a split or hold one class only: it is for checking, not for training. Raises `refusal` again
    where there is nothing to look at: no folder, or no picture in it.
    """
    if not root.is_dir():
        raise refusal
    if refusal.repair.startswith("Did you mean"):
        return _nothing(root), [_finding("wrong_root", refusal.message, refusal.repair)]
    found, empty, rejects = _walk(root)
    if not any(found.values()):
        raise refusal
    index = _index(root, found, rejects)
    return index, [_finding("cannot_train", refusal.message, refusal.repair), *_layout(found, empty)]


def _finding(rule: str, message: str, repair: str, files: tuple[str, ...] = ()) -> Finding:
    return Finding(source="check", rule=rule, severity="error", files=files, message=message, repair=repair)


def _nothing(root: Path) -> Index:
    return Index(root=str(root), classes=(), splits={}, fingerprint=fingerprint({}, ()))


Found = dict[SplitName, dict[str, list[walk.Item]]]
"""split -> class -> its images; the class is there even where it has none."""


def _walk(root: Path) -> tuple[Found, list[str], list[Reject]]:
    """Every class folder of every split, the folders without any image, and what is left out."""
    rejects: list[Reject] = []
    found: Found = {}
    empty: list[str] = []
    for split, folder in _split_folders(root):
        classes = found.setdefault(split, defaultdict(list))
        for name in _folders(root, folder, split, rejects):
            place = f"{folder}/{name}" if folder else name
            try:
                items = walk.images(str(root), place, walk.class_name(name), split, rejects)
            except DataError as error:
                rejects.append(Reject(path=walk.printable(place), split=split, reason=error.message))
                continue
            classes[walk.class_name(name)] += items
            if not items:
                empty.append(walk.printable(place))
    return found, empty, rejects


def _split_folders(root: Path) -> list[tuple[SplitName, str]]:
    top = walk.listing(str(root)).folders
    named = [(ALIASES[name.casefold()], name) for name in top if name.casefold() in ALIASES]
    return named or [("train", "")]


def _folders(root: Path, folder: str, split: SplitName, rejects: list[Reject]) -> list[str]:
    try:
        return walk.listing(str(root / folder)).folders
    except DataError as error:
        rejects.append(Reject(path=walk.printable(folder), split=split, reason=error.message))
        return []


def _index(root: Path, found: Found, rejects: list[Reject]) -> Index:
    classes = sorted({name for of_split in found.values() for name in of_split}, key=walk.in_order)
    position = {name: number for number, name in enumerate(classes)}
    splits: dict[SplitName, Split] = {}
    for split in ORDER:
        items = [item for of_class in found.get(split, {}).values() for item in of_class]
        if items:
            splits[split] = Split(
                paths=tuple(item.path for item in items),
                labels=tuple(position[item.label] for item in items),
                sizes=tuple(item.size for item in items),
            )
    return Index(
        root=str(root),
        classes=tuple(classes),
        splits=splits,
        rejects=tuple(rejects),
        fingerprint=fingerprint(splits, classes),
    )


def _layout(found: Found, empty: list[str]) -> list[Finding]:
    """Empty class folders, and classes that train or another split does not know."""
    findings = []
    if empty:
        names = ", ".join(empty[:8]) + (", ..." if len(empty) > 8 else "")
        message = f"{len(empty):,} class folders hold no picture: {names}."
        findings.append(_finding("empty_class", message, "Fill or delete these folders.", tuple(empty)))
    known = found.get("train", {})
    for split, classes in found.items():
        if split == "train" or not known:
            continue
        unknown = sorted(set(classes) - set(known))
        missing = sorted(set(known) - set(classes))
        if unknown:
            message = f"Classes of {split} that train does not have: {', '.join(unknown)}."
            files = tuple(item.path for name in unknown for item in classes[name])
            findings.append(_finding("unknown_class", message, "Name the folders alike in every split.", files))
        if missing:
            message = f"Classes of train without a folder in {split}: {', '.join(missing)}."
            findings.append(_finding("missing_class", message, "Add images of them."))
    return findings
