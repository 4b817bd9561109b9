"""Keeps the folder in which instances share their counters from growing with every instance that ever lived."""

from collections.abc import Collection
from pathlib import Path

KEPT = 64
"""Ended instances whose counters still count: sums go on rising through restarts, and a crash loop fills no disk."""


def sweep(folder: Path, living: Collection[int], kept: int = KEPT) -> None:
    """Delete the counters of all ended instances but the `kept` that wrote last.

    What is deleted leaves the sums, which Prometheus takes for a restart.
    """
    ended: dict[int, list[Path]] = {}
    for path in folder.glob("*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdecimal() and int(pid) not in living:
            ended.setdefault(int(pid), []).append(path)
    if len(ended) <= kept:
        return
    oldest = sorted(ended.values(), key=lambda files: max(_written(file) for file in files))
    for file in (file for files in oldest[: len(ended) - kept] for file in files):
        file.unlink(missing_ok=True)


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0
