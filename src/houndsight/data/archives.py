"""Opens a zip of images into the cache, once and safely; beneath `data.sources`.

<cache>/zips/<sha256>/        what the archive holds; appears whole or not at all
<cache>/zips/.<sha256>.lock   held while it is being unpacked; a killed holder lets go of it
"""

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path, PurePosixPath

from houndsight.data.splits import ALIASES
from houndsight.errors import DataError
from houndsight.workspace import Progress, friendly_disk_errors, remove_tree

MAX_BYTES = 200 << 30
"""Unpacked size above which an archive is refused."""
MAX_FILES = 3_000_000
"""Files above which an archive is refused."""
MAX_RATIO = 100
"""Unpacked over packed size above which an archive is refused; pictures give 1.0, BMP files some 20."""
SMALL = 100 << 20
"""Unpacked size up to which the ratio does not matter."""
_BLOCK = 1 << 20


def unpacked(archive: Path, cache: Path, progress: Progress | None = None) -> Path:
    """The folder with what `archive` holds, unpacked into `cache` unless it is there already.

    Raises `DataError` for a broken, encrypted or hostile archive: paths that leave the folder, links, more bytes or
    files than any data set has. Nothing half-unpacked is ever seen. A single folder around everything is entered.
    """
    folder = cache / "zips"
    key = content_hash(archive)
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{key}.lock"), friendly_disk_errors(folder):
        final, staged = folder / key, folder / f".{key}.part"
        if not final.is_dir():
            remove_tree(staged)
            try:
                _unpack(archive, staged, progress)
                staged.rename(final)
            except BaseException:
                remove_tree(staged)
                raise
    return _inner(final)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; another process that holds it is waited for."""
    with friendly_disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)


def content_hash(path: Path) -> str:
    """sha256 of a file's contents, in hexadecimal; 0.5 s a gigabyte."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "Check its rights.") from error


def _unpack(archive: Path, to: Path, progress: Progress | None) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            members = _members(archive, file)
            total = sum(member.file_size for _, member in members)
            if total > shutil.disk_usage(to.parent).free:
                raise DataError(f"{archive} unpacks to {total / 1e9:.1f} GB: more than the disk of {to.parent} has.")
            to.mkdir()
            done = 0
            for number, (name, member) in enumerate(members):
                place = to / name
                place.parent.mkdir(parents=True, exist_ok=True)
                _write(file, member, place)
                done += member.file_size
                if progress and (number % 32 == 0 or number + 1 == len(members)):
                    progress("unpack", done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{archive} is a broken zip: {error}.", "Get it again.") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(f"{archive} holds a file and a folder of the same name.", "Pack it again.") from error


def _write(file: zipfile.ZipFile, member: zipfile.ZipInfo, place: Path) -> None:
    """Write one member, never more bytes than its header says; what lies about its size fails its checksum."""
    left = member.file_size
    with file.open(member) as source, open(place, "xb") as target:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise zipfile.BadZipFile(f"{member.filename} is larger than the archive says")
            target.write(block)


def _members(archive: Path, file: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    """What is to be unpacked, under which names; raises `DataError` for anything a data set would not hold."""
    infos = file.infolist()
    if len(infos) > MAX_FILES:
        raise DataError(f"{archive} holds {len(infos):,} files, more than {MAX_FILES:,}.")
    total, packed = sum(info.file_size for info in infos), max(1, archive.stat().st_size)
    if total > MAX_BYTES or (total > SMALL and total > MAX_RATIO * packed):
        raise DataError(
            f"{archive} unpacks from {packed / 1e6:.1f} MB to {total / 1e6:,.0f} MB: refused.",
            "Unpack it yourself if you trust it, and give the folder.",
        )
    members = []
    for info in infos:
        name = _safe_name(archive, info)
        if name and not info.is_dir():
            members.append((name, info))
    if not members:
        raise DataError(f"{archive} holds no files.")
    return members


def _safe_name(archive: Path, info: zipfile.ZipInfo) -> str:
    """The member's path below the folder; empty for what systems add of their own accord."""
    name = info.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not parts or name.startswith("/") or ".." in parts or "\0" in name or ":" in parts[0]:
        raise DataError(f"{archive} holds a path that leaves its folder: {name!r}.", "It is not safe to open.")
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise DataError(f"{archive} holds {name!r}, which is a link or a device.", "Pack it again without links.")
    if info.flag_bits & 1:
        raise DataError(f"{archive} is encrypted.", "Unpack it yourself and give the folder.")
    if parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts):
        return ""
    return "/".join(parts)


def _inner(folder: Path) -> Path:
    """The folder itself, or the only one in it (packed with its name around everything), three deep at most."""
    for _ in range(3):
        inside = list(folder.iterdir())
        only = inside[0] if len(inside) == 1 else None
        if only is None or not only.is_dir() or only.name.casefold() in ALIASES:
            break
        if not any(each.is_dir() for each in only.iterdir()):
            break
        folder = only
    return folder
