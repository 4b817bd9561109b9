"""The script's code on its way into the job: the entry script alone, or its source folder without what is no code."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from houndsight.folders import JobFolder
from houndsight.spec import ScriptSpec
from houndsight.workspace import friendly_disk_errors, remove_tree

NOT_CODE = frozenset(
    {
        *(".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", "node_modules", ".DS_Store"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox"),
    }
)
MOST_BYTES = 512 * 1024**2
"""A source folder of more than this holds data: it would be copied into every job."""


def source_files(folder: Path, left_out: frozenset[Path]) -> Iterator[Path]:
    """Every file of a source folder that is copied, folders that are links included (they stay links).

    Left out are version control, caches, virtual environments, workspaces (they hold `jobs/*/spec.json`) and the
    resolved folders in `left_out`: the channels, which are linked, never copied.
    """
    for place, folders, files in os.walk(folder):
        here = Path(place)
        keep = []
        for name in sorted(folders):
            each = here / name
            if name in NOT_CODE or each.resolve() in left_out or _is_environment(each) or _is_ours(each):
                continue
            if each.is_symlink():
                yield each
            else:
                keep.append(name)
        folders[:] = keep
        for name in sorted(files):
            each = here / name
            if name not in NOT_CODE and not name.endswith((".pyc", ".pyo")) and _can_be_copied(each):
                yield each


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").is_file()


def _is_ours(folder: Path) -> bool:
    """Whether it is a workspace, or a part of one: the job that is being made lies in it."""
    jobs = folder if folder.name == "jobs" else folder / "jobs"
    return next(jobs.glob("*/spec.json"), None) is not None


def _can_be_copied(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def to_copy(spec: ScriptSpec) -> Iterator[Path]:
    """The files that a job of this spec copies, as they lie in the source folder."""
    root = Path(spec.source_dir)
    if spec.alone:
        yield root / spec.entry_point
        return
    yield from source_files(root, frozenset(Path(each).resolve() for each in spec.channels.values()))


def copy_source(spec: ScriptSpec, job: JobFolder) -> None:
    """Copy the code into the job, whole or not at all; a job that has code already keeps it."""
    if job.code.is_dir():
        return
    staged = job.path / ".code"
    remove_tree(staged)
    root = Path(spec.source_dir)
    with friendly_disk_errors(job.path):
        staged.mkdir()
        for file in to_copy(spec):
            target = staged / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                target.symlink_to(file.resolve(), target_is_directory=True)
            else:
                shutil.copy2(file, target)
        staged.rename(job.code)
