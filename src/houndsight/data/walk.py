"""Reading directories for `folder`: names and sizes only, no file is opened except one without an ending."""

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from houndsight.errors import DataError
from houndsight.spec import Reject

ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .dib .gif .tif .tiff".split(),
)
"""Endings of the formats that are read, in lower case."""
FORMATS = "JPEG, PNG, WebP, BMP, GIF and TIFF"
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "lost+found", "@eadir"})


@dataclass(frozen=True, slots=True)
class Item:
    """One image: path relative to the root with `/`, name of its class, bytes."""

    path: str
    label: str
    size: int


@dataclass(slots=True)
class Listing:
    """What one folder holds, hidden things left out, in the order of the names whatever the file system's is."""

    folders: list[str] = field(default_factory=list)
    files: dict[str, os.DirEntry[str]] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)


def listing(folder: str) -> Listing:
    """Names in `folder`; raises `DataError` where it may not be read."""
    found = Listing()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.casefold() in _LITTER:
                    continue
                if entry.is_dir():
                    found.folders.append(entry.name)
                else:
                    found.files[entry.name] = entry
                if entry.is_symlink():
                    found.links.add(entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error
    found.folders.sort(key=in_order)
    found.files = {name: found.files[name] for name in sorted(found.files, key=in_order)}
    return found


def unreadable(folder: str, error: OSError) -> DataError:
    """The refusal for a folder that the system does not let us read."""
    return DataError(
        f"The folder {printable(folder)} cannot be read: {error.strerror}.",
        f"Make it readable: chmod -R u+rX '{printable(folder)}'",
    )


def in_order(name: str) -> tuple[str, str]:
    """Sort key that is the same for the composed and the decomposed spelling of an accent (Linux, macOS)."""
    return (name, name) if name.isascii() else (unicodedata.normalize("NFC", name), name)


def printable(name: str) -> str:
    """`name` with bytes that are no UTF-8 written as escapes, so that it can go into JSON."""
    if name.isascii():
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, which no file system hands out but a caller may
        return name.encode("utf-8", "backslashreplace").decode()


def class_name(folder: str) -> str:
    """Name of the class of a folder: the folder's own name, accents composed (macOS stores them apart)."""
    return folder if folder.isascii() else unicodedata.normalize("NFC", printable(folder))


def images(root: str, relative: str, label: str, split: str | None, rejects: list[Reject]) -> list[Item]:
    """Every image below `root/relative`, however deep; what is no image is added to `rejects`.

    Each real folder is entered once, so links that lead back end by themselves; real folders go before links to
    them, so the paths do not depend on which was met first.
    """
    items: list[Item] = []
    seen: set[tuple[int, int]] = set()
    waiting: list[str] = [relative]
    linked: list[str] = []
    while waiting or linked:
        inside = waiting.pop() if waiting else linked.pop()
        place = f"{root}/{inside}"
        known = status(Path(place))
        if known is None or (known.st_dev, known.st_ino) in seen:
            continue
        seen.add((known.st_dev, known.st_ino))
        here = listing(place)
        for name, entry in here.files.items():
            path, known = f"{inside}/{name}", status(entry)
            reason = refusal(entry, known)
            if reason is None and known is not None:
                items.append(Item(path, label, known.st_size))
            else:
                rejects.append(Reject(path=printable(path), split=split, reason=reason or ""))
        for name in reversed(here.folders):
            (linked if name in here.links else waiting).append(f"{inside}/{name}")
    return items


def status(path: Path | os.DirEntry[str]) -> os.stat_result | None:
    """What the system knows of a path, links followed; None where there is nothing."""
    try:
        return path.stat()
    except OSError:
        return None


def refusal(place: Path | os.DirEntry[str], known: os.stat_result | None) -> str | None:
    """Why the file is left out, or None for one that promises to be an image."""
    if known is None:
        return "a link that leads nowhere" if place.is_symlink() else "is gone or may not be looked at"
    if not S_ISREG(known.st_mode):
        return "a folder" if S_ISDIR(known.st_mode) else "a device, pipe or socket, not a file"
    if printable(str(place.name)) != place.name:
        return "its name is not valid UTF-8"
    ending = _ending(place.name)
    if ending in ENDINGS or (not ending and _has_image_start(place)):
        return None
    return f"not an image: {ending or 'it has no ending and'} is not one of {FORMATS}"


def is_image_name(name: str) -> bool:
    """Whether the ending promises an image."""
    return _ending(name) in ENDINGS


def _ending(name: str) -> str:
    start, dot, end = name.rpartition(".")
    return f"{dot}{end}".lower() if start else ""


def _has_image_start(place: Path | os.DirEntry[str]) -> bool:
    try:
        with open(place, "rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8", b"II*\0", b"MM\0*")) or (
        start[:4] == b"RIFF" and start[8:] == b"WEBP"
    )
