"""A tuning as Python sees it: a view of its folder that can wait and stop; `tune` and `open_tuning` return one."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from houndsight.backends import base
from houndsight.backends.local import LocalBackend
from houndsight.errors import DependencyError, HoundsightError, JobError, from_document
from houndsight.folders import TuningFolder
from houndsight.reports.notebook import Findings
from houndsight.spec import FINAL_STATES, Finding, Index, State, Status
from houndsight.tuning import finish, leaderboard
from houndsight.tuning.controlled import Controlled
from houndsight.tuning.events import State as Search
from houndsight.tuning.events import Trial, read_state
from houndsight.tuning.leaderboard import Row
from houndsight.tuning.spec import Earlier, TuningSpec
from houndsight.verbs.job import Job
from houndsight.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

COMMAND = (sys.executable, "-P", "-u", "-m", "houndsight.controller")
"""What runs a tuning."""


@dataclass(frozen=True)
class TuningJob:
    """One tuning; holds nothing but its folder, so every property is what the files say now."""

    files: TuningFolder
    place: Workspace

    @property
    def name(self) -> str:
        """Name of the tuning."""
        return self.files.name

    @property
    def folder(self) -> Path:
        """Folder of the tuning."""
        return self.files.path

    @property
    def status(self) -> Status:
        """Where it stands; one whose controller died is found and marked FAILED with the reason."""
        return base.status(Controlled(self.files.path))

    @property
    def state(self) -> State:
        """QUEUED, RUNNING, STOPPING, COMPLETED, FAILED or STOPPED."""
        return self.status.state

    @property
    def spec(self) -> TuningSpec:
        """What was asked for."""
        return TuningSpec.read(self.files.spec)

    @property
    def search(self) -> Search:
        """Every trial as the events tell of it."""
        return read_state(self.files.events)

    @property
    def leaderboard(self) -> list[Row]:
        """Completed trials, best first, and which of them chance does not tell apart from the best."""
        return leaderboard.rank(self.spec, self.search, self.place)

    @property
    def findings(self) -> Findings:
        """What is remarkable about the search."""
        if not self.files.findings.is_file():
            return Findings()
        held = json.loads(self.files.findings.read_bytes())["findings"]
        return Findings(Finding.model_validate(each) for each in held)

    @property
    def report(self) -> Path | None:
        """The page, or None before there is one."""
        return self.files.report if self.files.report.is_file() else None

    @property
    def error(self) -> HoundsightError | None:
        """Why the tuning failed, or None where it did not."""
        status = self.status
        if status.state != "FAILED":
            return None
        if status.error:
            return from_document(status.error)
        return JobError(status.reason, f"Go on with `houndsight tune --resume {self.name}`.")

    def job(self, trial: Trial) -> Job:
        """The job of a trial."""
        return Job(self.place.job(trial.job))

    def jobs(self) -> list[Job]:
        """The jobs of all trials, by number."""
        return [self.job(each) for each in self.search.trials if (self.place.jobs / each.job / "spec.json").is_file()]

    def best_trial(self) -> Trial:
        """The best completed trial; raises `JobError` where none was completed yet."""
        best = leaderboard.best_trial(self.spec, self.search)
        if best is None:
            raise finish.no_trial()
        return best

    def best_job(self) -> Job:
        """The job whose model is the result: the final one where there is one, else the best trial's."""
        final = [each for each in self.search.trials if each.role == "final" and each.state == "COMPLETED"]
        return self.job(final[0] if final else self.best_trial())

    def best_hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters of the best trial; empty where that is the job as it is."""
        return dict(self.best_trial().hyperparameters)

    def dataframe(self) -> "pd.DataFrame":
        """One row a trial: its number, job, state, hyperparameters, objective with its interval, epochs, seconds."""
        try:
            import pandas as pd
        except ImportError:
            raise DependencyError("Tables need pandas.", "pip install 'houndsight[tables]'") from None
        spec = self.spec
        return pd.DataFrame([_row(spec, each) for each in self.search.trials])

    def wait(self, timeout: float | None = None) -> "TuningJob":
        """Return when the tuning is COMPLETED, FAILED or STOPPED, or after `timeout` seconds."""
        LocalBackend(COMMAND).wait(Controlled(self.files.path), timeout)
        return self

    def stop(self, grace: float = 120.0) -> "TuningJob":
        """Ask the search to stop its trials and end; it can be gone on with later."""
        if self.state not in FINAL_STATES:
            LocalBackend(COMMAND).stop(Controlled(self.files.path), grace)
        return self

    def logs(self) -> str:
        """What the controller printed so far."""
        return self.files.log.read_text(encoding="utf-8", errors="replace") if self.files.log.is_file() else ""

    def document(self) -> dict[str, Any]:
        """What `houndsight tune --json` prints: other programs may rely on its keys."""
        status, search = self.status, self.search
        best = json.loads(self.files.best.read_bytes()) if self.files.best.is_file() else None
        document = {
            "tuning": self.name,
            "state": status.state,
            "folder": str(self.folder),
            "report": str(self.report) if self.report else None,
            "jobs": [_entry(each) for each in search.trials],
            "best": best,
            "seconds": round(status.ended - status.started, 3) if status.ended and status.started else None,
            "findings": [each.model_dump() for each in self.findings],
        }
        error = self.error
        return document if error is None else {**document, "error": error.document()}

    def _repr_html_(self) -> str:
        """The leaderboard, for notebooks."""
        from markupsafe import escape

        cells = []
        for row in self.leaderboard[:20]:
            settings = ", ".join(f"{name}={value}" for name, value in row.trial.hyperparameters.items()) or "as it is"
            texts = (row.place, row.trial.job, f"{row.trial.value:.6g}", "tied" if row.tied else "", settings)
            cells.append("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in texts) + "</tr>")
        head = "".join(f"<th>{each}</th>" for each in ("", "job", escape(self.spec.objective), "", "hyperparameters"))
        title = f"<p>Tuning <b>{escape(self.name)}</b>: {escape(self.state)}</p>"
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>"


def _entry(trial: Trial) -> dict[str, Any]:
    return {
        "job": trial.job,
        "trial": trial.number,
        "role": trial.role,
        "state": trial.state,
        "hyperparameters": trial.hyperparameters,
        "value": trial.value,
        "low": trial.low,
        "high": trial.high,
        "epochs": trial.epochs,
        "seconds": trial.seconds,
        "reason": trial.reason,
    }


def _row(spec: TuningSpec, trial: Trial) -> dict[str, Any]:
    values = {name: trial.hyperparameters.get(name, trial.used.get(name)) for name in spec.space}
    entry = {name: value for name, value in _entry(trial).items() if name != "hyperparameters"}
    return {**entry, **values}


def earlier(spec: TuningSpec, place: Workspace, name: str, index: Index | None) -> TuningSpec:
    """The spec with what the earlier tuning had found; raises `WorkspaceError` where there is none.

    On the same data with the same objective its trials count as if they were of this search; else only its three best
    points are tried first.
    """
    found = TuningJob(place.tuning(name), place)
    before = found.spec
    completed = [each for each in found.search.searched if each.state == "COMPLETED" and each.value is not None]
    known = []
    for trial in completed:
        values = {key: trial.hyperparameters.get(key, trial.used.get(key)) for key in spec.space}
        known.append(
            Earlier(hyperparameters={k: v for k, v in values.items() if v is not None}, value=trial.value or 0.0)
        )
    same = (before.objective, before.goal) == (spec.objective, spec.goal) and _data_of(found) == (
        index.fingerprint if index else ""
    )
    if same:
        return spec.model_copy(update={"source": name, "earlier": tuple(known)})
    known.sort(key=lambda each: -before.sign() * each.value)
    return spec.model_copy(update={"source": name, "first": tuple(each.hyperparameters for each in known[:3])})


def _data_of(tuning: TuningJob) -> str:
    return Index.read(tuning.files.index).fingerprint if tuning.files.index.is_file() else ""
