"""A folder that a script filled into a .tar.gz as SageMaker packs it: its contents at the top, the same every time."""

import gzip
import logging
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from houndsight.reports.ran import Packed, PackedFile
from houndsight.workspace import atomic_write

log = logging.getLogger("houndsight")

LISTED = 200
"""Most files that are listed by name; the archive holds them all."""


def pack(folder: Path, archive: Path) -> Packed | None:
    """Pack the folder's contents and say what was packed; None, and no archive, where it holds no file.

    Names are sorted, owners and times left out, so that the same files give the same bytes. A link to a file is
    packed as the file: readers refuse links. Links to folders, sockets and the like are left out and named in the log.
    Compression level 1: weights hardly compress, and level 9 takes four times as long.
    """
    files = list(_files(folder))
    if not files:
        return None
    packed_files: list[PackedFile] = []
    with (
        atomic_write(archive) as out,
        gzip.GzipFile(filename="", mode="wb", fileobj=out, compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files:
            with file.open("rb") as content:
                status = os.fstat(content.fileno())
                member = tarfile.TarInfo(file.relative_to(folder).as_posix())
                member.size = status.st_size
                member.mode = 0o755 if status.st_mode & 0o100 else 0o644
                tar.addfile(member, content)
                packed_files.append(PackedFile(path=member.name, bytes=member.size))
    return Packed(
        files=tuple(packed_files[:LISTED]),
        count=len(packed_files),
        bytes=sum(each.bytes for each in packed_files),
    )


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders.sort()
        for name in [*(each for each in folders if (here / each).is_symlink()), *files]:
            if not (here / name).is_file():
                log.warning("%s is not packed: it is no file.", (here / name).relative_to(folder.parent))
        yield from (here / name for name in sorted(files) if (here / name).is_file())
