"""Check: read all data, train nothing, and say what is wrong with it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from houndsight.data import check as checking
from houndsight.data import clean, sources
from houndsight.data.folder import scan
from houndsight.data.survey import survey
from houndsight.errors import DataError
from houndsight.spec import Finding, Index
from houndsight.workspace import Progress, Workspace


@dataclass(frozen=True)
class CheckResult:
    """What was found, the worst first."""

    index: Index
    """The data as it was found."""
    findings: list[Finding]
    """What is wrong with it."""
    seconds: float
    """How long the check took."""

    @property
    def classes(self) -> dict[str, dict[str, int]]:
        """Number of images by class and split."""
        return self.document()["classes"]  # type: ignore[no-any-return]

    @property
    def splits(self) -> dict[str, dict[str, int]]:
        """Images and bytes of each split."""
        return self.document()["splits"]  # type: ignore[no-any-return]

    @property
    def wrong(self) -> bool:
        """Whether anything is worse than information."""
        return any(each.severity != "info" for each in self.findings)

    def document(self) -> dict[str, Any]:
        """What `--json` prints and `check.json` holds."""
        return checking.document(self.index, self.findings)

    def write(self, path: str | Path) -> clean.Cleaned:
        """Write the file list without what was found faulty; `train` takes it."""
        return clean.write(Path(path), self.index, self.findings)


def check(
    data: str | Path,
    *,
    split_seed: int = 0,
    workspace: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Read every image of `data` (folder, CSV list, zip, http(s) or s3 address) and say what is wrong with it.

    Raises `DataError` only where there is nothing to look at. The result is kept in the workspace's cache.
    """
    began = time.monotonic()
    cache = Workspace.find(workspace).cache
    place = sources.local(str(data), cache, progress)
    layout: list[Finding] = []
    try:
        index = scan(place, split_seed=split_seed)
    except DataError as refusal:
        index, layout = survey(Path(place).expanduser().absolute(), refusal)
    found = checking.check(index, workers=workers, progress=progress, cache=cache)
    return CheckResult(index, checking.ordered([*layout, *found]), time.monotonic() - began)
