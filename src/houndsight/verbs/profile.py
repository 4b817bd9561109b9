"""Profile: what limits the speed of a job, of a training on a folder of images, or of any loop of one's own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from houndsight.errors import WorkspaceError
from houndsight.records.profiling import run as runs
from houndsight.records.profiling.document import document
from houndsight.records.trace import write_trace
from houndsight.results import Verdict
from houndsight.workspace import Progress, Workspace

if TYPE_CHECKING:
    from houndsight.verbs.prove import Proof
    from houndsight.watch.own import Profile


@dataclass(frozen=True)
class Profiled:
    """What limits a training, and what was measured."""

    name: str
    """The job or the folder of the profile."""
    verdict: Verdict | None
    """What limits it; None where there was too little to judge."""
    document: dict[str, Any]
    """What `profile.json` holds."""
    proofs: "tuple[Proof, ...]" = ()
    """Changes that were tried, and what each really won."""

    def as_json(self) -> dict[str, Any]:
        """What `houndsight profile --json` prints."""
        return {"name": self.name, **self.document, "proofs": [each.document() for each in self.proofs]}


def profile(
    folder: str | Path | None = None,
    *,
    interval: float = 0.5,
    window_after: float | None = 20.0,
    price_per_hour: float | None = None,
    instance_type: str | None = None,
) -> "Profile":
    """Watch any PyTorch loop: `with houndsight.profile() as prof:` around it, then `prof.verdict`.

    `interval` is that of the machine's sampler in seconds (0.1 to 60); a window of torch.profiler opens after
    `window_after` seconds, none with None. What is written goes into `folder`, else into the job whose script this
    is, else into a new folder below the workspace.
    """
    from houndsight.watch.own import Profile

    return Profile(
        folder,
        interval=interval,
        window_after=window_after,
        price_per_hour=price_per_hour,
        instance_type=instance_type,
    )


def profile_job(
    name: str,
    *,
    workspace: str | Path | None = None,
    price_per_hour: float | None = None,
    instance_type: str | None = None,
    trace: str | Path | None = None,
) -> Profiled:
    """What limits a job, also while it runs; from its records alone. `trace` is a file for Perfetto to be written."""
    files = Workspace.find(workspace).job(name)
    if not files.records.is_dir():
        raise WorkspaceError(f"The job '{name}' has recorded nothing yet.", f"Type `houndsight logs {name}`.")
    run = runs.read(files.records)
    given = {"price_per_hour": price_per_hour, "instance_type": instance_type}
    facts = run.facts.model_copy(update={key: value for key, value in given.items() if value is not None})
    found = document(runs.Run(run.timeline, run.machine, facts))
    if trace is not None:
        write_trace(Path(trace), files.records)
    return _profiled(name, found)


def profile_data(
    data: str | Path,
    *,
    prove: bool = False,
    seconds: float = 20.0,
    workspace: str | Path | None = None,
    trace: str | Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Profiled:
    """Train on `data` for some seconds with these settings of `ClassifierSpec`, and say what limits the speed.

    With `prove` the change that the verdict names is tried against the present settings, in turns, for `seconds`, and
    what was really won is told. Nothing of the trained weights is kept.
    """
    from houndsight.verbs.prove import Bench

    with Bench.prepare(data, workspace, progress, settings) as bench:
        folder, found = bench.profile(seconds / 2)
        result = _profiled(folder.name, found)
        if trace is not None:
            write_trace(Path(trace), folder)
        if not prove:
            return result
        proofs = tuple(bench.prove(change, expected, seconds) for change, expected in bench.changes(result.verdict))
        return Profiled(result.name, result.verdict, result.document, proofs)


def _profiled(name: str, found: dict[str, Any]) -> Profiled:
    verdict = Verdict.model_validate_json(json.dumps(found["verdict"])) if found["verdict"] else None
    return Profiled(name, verdict, found)
