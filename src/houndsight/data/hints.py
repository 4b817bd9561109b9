"""What somebody who gave the wrong folder probably meant; read by the error messages of `folder`."""

import logging
from collections.abc import Iterator
from pathlib import Path

from houndsight.data import walk
from houndsight.data.splits import ALIASES
from houndsight.errors import DataError, nearest

log = logging.getLogger("houndsight")

_DEPTH = 3
_FOLDERS = 300


def instead_of(path: Path) -> str:
    """The nearest existing sibling of a path that does not exist, as a question."""
    place, missing = path.parent, path.name
    while not _is_folder(place):
        place, missing = place.parent, place.name
    try:
        inside = walk.listing(str(place))
    except DataError:
        return f"{walk.printable(str(place))} cannot be read."
    known = [*inside.folders, *(name for name in inside.files if name.lower().endswith(".csv"))]
    hits = [_told(place / hit, Path.cwd()) for hit in nearest(walk.printable(missing), map(walk.printable, known))]
    if hits:
        return f"Did you mean {' or '.join(hits)}?"
    return f"{walk.printable(str(place))} exists but holds nothing of a similar name."


def root_instead(root: Path, otherwise: str) -> str:
    """`Did you mean ./dogImages?` where a folder below or above `root` looks like the right one, else `otherwise`."""
    below = list(_better_below(root))[:3]
    if below:
        return f"Did you mean {' or '.join(_told(path, root) for path in below)}?"
    parent = root.parent
    if parent not in (root, parent.parent) and root.name.casefold() not in ALIASES and _holds_classes(parent):
        return f"Did you mean the folder above, {walk.printable(str(parent))}?"
    return otherwise


def warn_of_siblings(root: Path) -> None:
    """Say so when `root` is the train folder of a larger whole: its valid and test are then not used."""
    if ALIASES.get(root.name.casefold()) != "train":
        return
    try:
        beside = [name for name in walk.listing(str(root.parent)).folders if name.casefold() in ALIASES]
    except DataError:
        return
    others = [name for name in beside if name != root.name]
    if others:
        names = " and ".join(f"'{name}'" for name in others)
        log.warning("Only '%s' is used; %s lies beside it: %s holds all.", root.name, names, root.parent)


def _is_folder(place: Path) -> bool:
    try:
        return place.is_dir()
    except OSError:
        return False


def _told(path: Path, place: Path) -> str:
    text = f"./{path.relative_to(place)}" if path.is_relative_to(place) else str(path)
    return walk.printable(text)


def _better_below(root: Path) -> Iterator[Path]:
    """Folders below `root`, nearest first, that hold classes; those inside an answer are not looked at."""
    level, looked = [root], 0
    for _ in range(_DEPTH):
        deeper: list[Path] = []
        for place in level:
            for name in _folders(place):
                looked += 1
                if looked > _FOLDERS:
                    return
                if _holds_classes(place / name):
                    yield place / name
                else:
                    deeper.append(place / name)
        level = deeper


def _holds_classes(place: Path) -> bool:
    """Whether `place` holds a train folder with classes, or two folders with images directly in them."""
    folders = _folders(place)
    if any(ALIASES.get(name.casefold()) == "train" and _has_pictures(place / name, 2) for name in folders):
        return True
    return _has_pictures(place, 2) and not all(name.casefold() in ALIASES for name in folders)


def _has_pictures(place: Path, at_least: int) -> bool:
    count = 0
    for name in _folders(place)[:20]:
        try:
            count += any(map(walk.is_image_name, walk.listing(str(place / name)).files))
        except DataError:
            continue
        if count >= at_least:
            return True
    return False


def _folders(place: Path) -> list[str]:
    try:
        return walk.listing(str(place)).folders
    except DataError:
        return []
