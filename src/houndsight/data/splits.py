"""From found images to an `Index`: classes by name over all splits, the missing splits made, the fingerprint."""

import hashlib
import logging
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from houndsight.data.walk import Item, in_order
from houndsight.errors import DataError
from houndsight.spec import Index, Reject, Split, SplitName

log = logging.getLogger("houndsight")

ORDER: tuple[SplitName, ...] = ("train", "valid", "test")
ALIASES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
"""Names by which a split is known, in lower case."""


def assemble(
    root: Path, found: Mapping[SplitName, Sequence[Item]], rejects: list[Reject], *, where: str, split_seed: int
) -> Index:
    """The `Index` of what was found; raises `DataError` where it is no classification problem.

    `found` holds `train` alone (then 80/10/10 is made of it, class by class), `train` and `test` (then a tenth of
    train becomes valid) or `train` and `valid` with or without `test` (taken as they are).
    """
    classes = sorted({item.label for item in found["train"]}, key=in_order)
    near_equal_names({item.label for items in found.values() for item in items})
    if len(classes) < 2:
        only = f": '{classes[0]}'" if classes else ""
        raise DataError(f"{where} holds {len(classes) or 'no'} class{' only' * len(classes)}{only}.", TWO_CLASSES)
    parts = {name: _known(name, found[name], classes, rejects) for name in ORDER if name in found}
    made = "valid" not in parts
    if made:
        parts |= divide(parts["train"], ("valid",) if "test" in parts else ("valid", "test"), split_seed)
    if not parts["valid"]:
        raise DataError(
            f"{where} leaves no image to validate on.",
            "Give every class three images or more, or name a valid folder with the same classes as train.",
        )
    splits = {name: _columns(parts[name], classes) for name in ORDER if parts.get(name)}
    sizes = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    log.info("%s: %s classes; %s%s.", where, f"{len(classes):,}", sizes, f" (split seed {split_seed})" if made else "")
    return Index(
        root=str(root),
        classes=tuple(classes),
        splits=splits,
        rejects=tuple(rejects),
        split_seed=split_seed if made else None,
        fingerprint=fingerprint(splits, classes),
    )


TWO_CLASSES = "A classifier needs two classes or more: one folder a class, each with its images."


def near_equal_names(labels: Iterable[str]) -> None:
    """Raise `DataError` where two names differ only by case or blanks: one breed in two spellings."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        spellings["".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
    twins = [" and ".join(repr(name) for name in names) for names in spellings.values() if len(names) > 1]
    if twins:
        raise DataError(
            f"Class names differ only by case or blanks: {'; '.join(twins)}.",
            "Rename or merge these folders so that each class has one spelling in every split.",
        )


def _known(name: SplitName, items: Sequence[Item], classes: list[str], rejects: list[Reject]) -> list[Item]:
    """The items whose class train has; the others, and classes without any image here, are named in `rejects`."""
    if name == "train":
        return list(items)
    known = set(classes)
    kept = [item for item in items if item.label in known]
    unknown: dict[str, int] = defaultdict(int)
    for item in items:
        if item.label not in known:
            unknown[item.label] += 1
            rejects.append(Reject(path=item.path, split=name, reason=f"its class '{item.label}' is not in train"))
    for label, count in unknown.items():
        log.warning("Class '%s' of %s is not in train: its %s images are left out.", label, name, f"{count:,}")
    if items and not kept:
        raise DataError(
            f"No class of {name} ('{items[0].label}', ...) is in train ('{classes[0]}', ...).",
            "Name the class folders alike in every split.",
        )
    present = {item.label for item in kept}
    missing = [label for label in classes if label not in present]
    rejects.extend(
        Reject(path=f"{name}/{label}", split=name, reason=f"class '{label}' has no images in {name}")
        for label in missing
        if kept
    )
    if missing and kept:
        log.warning("No images in %s of: %s.", name, ", ".join(f"'{label}'" for label in missing))
    return kept


def divide(items: Sequence[Item], parts: Sequence[SplitName], seed: int) -> dict[SplitName, list[Item]]:
    """`items` in train and `parts`, a tenth of each class to each part.

    The images of a class are put in the order of sha256(seed, path): the same on every machine, and a new image
    moves no other one far. A class of three or more gives each part at least one image, a class of two gives one to
    the first part, a single image stays in train.
    """
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_class[item.label].append(item)
    made: dict[SplitName, list[Item]] = {name: [] for name in ("train", *parts)}
    for group in by_class.values():
        left = sorted(group, key=lambda item: _lot(seed, item.path))
        share = max(1, (len(group) + 5) // 10)
        for name in parts:
            if len(left) > 1:
                made[name] += left[:share]
                left = left[share:]
        made["train"] += left
    if "test" in made and not made["test"]:
        del made["test"]
    return made


def _lot(seed: int, path: str) -> tuple[bytes, str]:
    return hashlib.sha256(f"{seed}\0{in_order(path)[0]}".encode()).digest(), path


def _columns(items: Sequence[Item], classes: list[str]) -> Split:
    position = {label: number for number, label in enumerate(classes)}
    rows = sorted(items, key=lambda item: in_order(item.path))
    return Split(
        paths=tuple(item.path for item in rows),
        labels=tuple(position[item.label] for item in rows),
        sizes=tuple(item.size for item in rows),
    )


def fingerprint(splits: Mapping[SplitName, Split], classes: Sequence[str]) -> str:
    """sha256 over (path, size, label, split) of every file; the folder may be moved without changing it."""
    digest = hashlib.sha256()
    for name in ORDER:
        split = splits.get(name, Split())
        for path, size, label in zip(split.paths, split.sizes, split.labels, strict=True):
            digest.update(f"{in_order(path)[0]}\0{size}\0{classes[label]}\0{name}\n".encode())
    return digest.hexdigest()
