"""Check: read all data, train nothing, and say what is wrong with it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from houndsight.data import check as checking
from houndsight.data import clean, sources
from houndsight.data.folder import scan
from houndsight.data.survey import survey
from houndsight.errors import DataError, SpecError
from houndsight.spec import ClassifierSpec, Finding, Index
from houndsight.workspace import Progress, Workspace

if TYPE_CHECKING:
    from houndsight.features.audit import Floor

_RANK = ("error", "warning", "info")


@dataclass(frozen=True)
class CheckResult:
    """What was found, the worst first."""

    index: Index
    """The data as it was found."""
    findings: list[Finding]
    """What is wrong with it."""
    seconds: float
    """How long the check took."""
    floor: "Floor | None" = None
    """What a linear head on frozen features gets right; None without features."""

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
        """What `--json` prints and `check.json` holds; with features also the `floor`."""
        found = checking.document(self.index, self.findings)
        return found | ({"floor": self.floor.model_dump(mode="json")} if self.floor else {})

    def write(self, path: str | Path) -> clean.Cleaned:
        """Write the file list without what was found faulty; `train` takes it."""
        return clean.write(Path(path), self.index, self.findings)


def check(
    data: str | Path,
    *,
    features: bool = False,
    backbone: str | None = None,
    weights: str | None = None,
    split_seed: int = 0,
    workspace: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> CheckResult:
    """Read every image of `data` (folder, CSV list, zip, http(s) or s3 address) and say what is wrong with it.

    With `features`, what a backbone sees is judged as well: wrong labels, copies that the pixels do not prove, and the
    floor; `backbone` and `weights` as for training, whose cached features are used and left for it.

    Raises `DataError` only where there is nothing to look at, `ModelError` where the weights are not at hand. The
    result is kept in the workspace's cache.
    """
    began = time.monotonic()
    spec = _spec(data, features, backbone, weights)
    cache = Workspace.find(workspace).cache
    place = sources.local(str(data), cache, progress)
    layout: list[Finding] = []
    try:
        index = scan(place, split_seed=split_seed)
    except DataError as refusal:
        index, layout = survey(Path(place).expanduser().absolute(), refusal)
    found, floor = _judge(index, layout, spec, workers, progress, cache)
    return CheckResult(index, found, time.monotonic() - began, floor)


def _spec(data: str | Path, features: bool, backbone: str | None, weights: str | None) -> ClassifierSpec | None:
    given = {name: value for name, value in (("backbone", backbone), ("weights", weights)) if value is not None}
    if features:
        return ClassifierSpec.create(data=str(data), **given)
    if given:
        names = " and ".join(f"--{name}" for name in given)
        raise SpecError(f"{names}: only what is checked by its features needs a network.", "Add --features.")
    return None


def _judge(
    index: Index,
    layout: list[Finding],
    spec: ClassifierSpec | None,
    workers: int | None,
    progress: Progress | None,
    cache: Path,
) -> "tuple[list[Finding], Floor | None]":
    """The findings, the worst first, and the floor; the network comes first, since its weights may not be there."""
    if spec is None:
        found = checking.check(index, workers=workers, progress=progress, cache=cache)
        return checking.ordered([*layout, *found]), None
    from houndsight.features import audit

    built = None if layout else audit.backbone(spec, len(index.classes))
    found = checking.check(index, workers=workers, progress=progress, cache=cache)
    ordered = checking.ordered([*layout, *found])
    if built is None:
        return [*ordered, audit.not_audited("this data cannot be trained on as it is.")], None
    try:
        seen = audit.audit(index, built, found, cache, workers=workers, progress=progress)
    except DataError as refusal:
        return [*ordered, audit.not_audited(refusal.message)], None
    return sorted([*ordered, *seen.findings], key=lambda each: _RANK.index(each.severity)), seen.floor
